"""What the pods of jobs may be, as the operator's installation says: see `podPolicy` in the chart's values.

Whoever may create a FineTuneJob has the operator create a Job, with the operator's rights. Without a policy that would
give everyone who may do so whatever a pod can have: the node's files, another ServiceAccount, any Secret of the
namespace. The default is the profile `restricted` of the Pod Security Standards, whatever the namespace itself
enforces, with no names allowed: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

from pydantic import ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ConfigurationError

Pattern = str
"""A name, in which `*` stands for any text."""

HostNamespace = Literal["hostNetwork", "hostPID", "hostIPC"]


class PodPolicy(Settings):
    """What the pods of jobs may be."""

    model_config = Settings.model_config | {"frozen": True}

    secrets: tuple[Pattern, ...] = ()
    """Secrets that jobs may name: as credentials, to pull images, in variables and volumes."""
    service_accounts: tuple[Pattern, ...] = ()
    """ServiceAccounts besides the namespace's default one."""
    service_account_token: bool = False
    """Whether a pod may have a token of its ServiceAccount."""
    images: tuple[Pattern, ...] = ()
    """Images besides the trainer's."""
    priority_classes: tuple[Pattern, ...] = ()
    """PriorityClasses."""
    node_names: tuple[Pattern, ...] = ()
    """Nodes that a pod may name, past the scheduler."""
    volume_types: tuple[str, ...] = (
        "configMap",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
    """Kinds of volumes, as a pod names them."""
    projected_sources: tuple[str, ...] = ("clusterTrustBundle", "configMap", "downwardAPI", "secret")
    """Sources of projected volumes, as a pod names them; serviceAccountToken goes by `service_account_token`."""
    denied_metadata: tuple[Pattern, ...] = (
        "*.amazonaws.com/*",
        "*.cilium.io/*",
        "*.cncf.io/*",
        "*.gke.io/*",
        "*.hashicorp.com/*",
        "*.projectcalico.org/*",
        "*openshift.io/*",
        "aadpodidbinding",
        "azure.workload.identity/*",
        "external-dns.alpha.kubernetes.io/*",
        "io.kubernetes.cri-o.*",
        "k8s.ovn.org/*",
        "service.beta.kubernetes.io/*",
    )
    """Names of labels and annotations that jobs may not set: controllers of a cluster give networks, identities and
    Secrets to pods that have them."""
    host_namespaces: tuple[HostNamespace, ...] = ()
    """Namespaces of the node that a pod may be in: hostNetwork for RDMA."""
    host_ports: bool = False
    """Whether a container may take a port of its node."""
    capabilities: tuple[str, ...] = ()
    """Capabilities that a container may add: IPC_LOCK for RDMA."""
    run_as_root: bool = False
    """Whether a container may run as user 0."""
    privileged: bool = False
    """Whether a container may be privileged, escalate, or be without the profiles that confine it."""


ANY_NAMES = PodPolicy(
    secrets=("*",),
    service_accounts=("*",),
    images=("*",),
    priority_classes=("*",),
    node_names=("*",),
    denied_metadata=(),
)
"""The default as far as it is known without a cluster: which names it allows is not."""


def read_policy(text: str) -> PodPolicy:
    """The policy of a JSON text, as the chart gives it to the operator.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return PodPolicy.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"the pod policy is not valid: {place}: {first['msg']}", "see `podPolicy` in the chart's values.yaml"
        ) from error


def allows(patterns: tuple[Pattern, ...], name: str) -> bool:
    """Whether a name is one of these."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
