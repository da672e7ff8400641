"""The pod templates: one that does a job's work, one that reads the shape of its model. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zerotune_operator.api.backend import KubernetesSpec
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.topology import Topology
from zerotune_operator.backends.kubernetes.credentials import Credentials, credential_variables, credentials_of
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.layout import CACHE_DIR, CLAIMS_DIR, resolve
from zerotune_operator.backends.kubernetes.merged_pod import merge_overlay
from zerotune_operator.backends.kubernetes.network import PROGRESS_PORT_NAME
from zerotune_operator.backends.kubernetes.objects import (
    ATTEMPT_LABEL,
    CONFIG_DIGEST_ANNOTATION,
    INDEX_ANNOTATION,
    JOB_UID_LABEL,
    Object,
    attempt_name,
    given,
    labels,
    service_name,
    template_metadata,
)
from zerotune_operator.backends.kubernetes.volumes import (
    JOB_DIR,
    Mount,
    claims,
    claims_of,
    disk_bytes,
    job_folder,
    offloaded,
    plugin_folder,
    scratch,
    shared_memory,
)
from zerotune_operator.plan import Plan
from zerotune_trainer.launching.identity import (
    ATTEMPT_VARIABLE,
    DIGEST_VARIABLE,
    HOST_INDEX_VARIABLE,
    UID_VARIABLE,
)

CONTAINER = "trainer"
"""The container that does the work, by which `backend.kubernetes.pod` adds to it."""

_INIT = ("tini", "--")
"""The first process of a container: the kernel drops a SIGTERM that such a process has no handler for, which is Python
until it has started. As its child it ends by the signal, and not only when its time to save is over."""

_USER = 65532
"""User and group of the images; volumes are given to the group."""

_GRACE_SECONDS = 600
"""How long a pod may take to save a checkpoint when it is asked to stop; it ends as soon as it has. Weights and
optimizer state of 70 billion parameters are 1 TB, which 16 pods write in that time at 100 MB/s each."""

_PROBE_SECONDS = 30
"""The same for a pod that has nothing to save."""

_IDENTITY = {
    UID_VARIABLE: f"metadata.labels['{JOB_UID_LABEL}']",
    ATTEMPT_VARIABLE: f"metadata.labels['{ATTEMPT_LABEL}']",
    DIGEST_VARIABLE: f"metadata.annotations['{CONFIG_DIGEST_ANNOTATION}']",
    HOST_INDEX_VARIABLE: f"metadata.annotations['{INDEX_ANNOTATION}']",
}
"""What identifies a pod, and the field it comes from: the launcher compares it with the folder that is mounted."""

_PRODUCT_LABEL = "nvidia.com/gpu.product"
_LOST_NODE_SECONDS = 30
"""Kubernetes' default is 300: that long the other nodes of an attempt would do nothing."""
_GPU_TAINT = "nvidia.com/gpu"
"""Also on nodes whose GPUs are split, and are asked for by another name."""


def backend_of(job: Job) -> KubernetesSpec:
    """The job's own settings for this backend; it may do without any."""
    return job.spec.backend.kubernetes or KubernetesSpec()


def trainer_template(plan: Plan, job: Job, installation: Installation) -> Object:
    """The pod of every node of an attempt.

    Raises:
        ConfigurationError: `backend.kubernetes.pod` cannot be laid over it, or a URI names no claim.
    """
    backend, topology, attempt = backend_of(job), job.spec.topology, plan.config.job.attempt
    folder = job_folder(attempt_name(job, attempt))
    inputs = [*plugin_folder(job.spec.plugin), *claims_of(plan.config)]
    mounts = [folder, *scratch(), *offloaded(plan), shared_memory(backend, topology), *inputs]
    common = _container(job, installation, mounts, credentials_of(job, plan.config))
    container = {
        **common,
        "env": [*common["env"], *(_field(name, path) for name, path in _IDENTITY.items())],
        "command": [*_INIT, "zerotune-launch", JOB_DIR],
        "ports": [{"name": PROGRESS_PORT_NAME, "containerPort": plan.config.launch.progress_port, "protocol": "TCP"}],
        "resources": _resources(topology, disk_bytes(plan)),
    }
    template = {
        "metadata": template_metadata(
            job, labels(job, "trainer", attempt), {CONFIG_DIGEST_ANNOTATION: plan.config.digest()}
        ),
        "spec": {**_spec(job, mounts, container, _GRACE_SECONDS), "subdomain": service_name(job)},
    }
    return merge_overlay(template, job, installation, CONTAINER)


def inspection_template(job: Job, model_uri: str, installation: Installation) -> Object:
    """The pod that reads the shape of the model, on a node where the job itself could run.

    The user's settings hold for it too, but for command and resources: it takes no GPU and no network card.

    Raises:
        ConfigurationError: as `trainer_template`.
    """
    uri = resolve(model_uri)
    mounts = [*scratch(), *claims([uri])]
    container = _container(job, installation, mounts, [Credentials(job.spec.model.credentials, [uri])])
    template = {
        "metadata": template_metadata(job, labels(job, "inspection")),
        "spec": _spec(job, mounts, container, _PROBE_SECONDS),
    }
    merged = merge_overlay(template, job, installation, CONTAINER)
    revision = ["--revision", job.spec.model.revision] if job.spec.model.revision else []
    probe = {
        "command": [*_INIT, "zerotune-inspect", uri, "--claims", CLAIMS_DIR, *revision],
        "args": None,
        # With limits, as a quota of the namespace may want them.
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    }
    containers = [given(each | probe) if each["name"] == CONTAINER else each for each in merged["spec"]["containers"]]
    return merged | {"spec": merged["spec"] | {"containers": containers}}


def _spec(job: Job, mounts: Sequence[Mount], container: Object, grace_seconds: int) -> Object:
    backend = backend_of(job)
    pull_secrets = [{"name": name} for name in _unique(backend.image_pull_secrets)]
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace_seconds,
        "automountServiceAccountToken": False,
        # Variables for every Service of the namespace: many of them slow down every start, and nothing reads them.
        "enableServiceLinks": False,
        **given(
            {
                "serviceAccountName": backend.service_account_name,
                "priorityClassName": job.spec.run_policy.priority_class,
                "imagePullSecrets": pull_secrets or None,
            }
        ),
        **_scheduling(job.spec.topology),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            # The files of a volume are visited once, not before every attempt.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [each.volume() for each in mounts],
    }


def _container(
    job: Job, installation: Installation, mounts: Sequence[Mount], credentials: Sequence[Credentials]
) -> Object:
    return {
        "name": CONTAINER,
        "image": backend_of(job).image or installation.trainer_image,
        "imagePullPolicy": installation.image_pull_policy,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Without these the libraries write below a home that is read-only. What the ranks compute with is the
        # launcher's to say, in its own environment.
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 an own volume
            {"name": "HF_HOME", "value": f"{CACHE_DIR}/huggingface"},
            {"name": "TRITON_CACHE_DIR", "value": f"{CACHE_DIR}/triton"},
            *credential_variables(credentials),
        ],
        "volumeMounts": [each.mount() for each in mounts],
    }


def _field(variable: str, path: str) -> Object:
    """An environment variable with a field of the pod."""
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _resources(topology: Topology, disk: int) -> Object:
    """What was asked for and no more, and disk for the parameters that are offloaded to it: the scheduler takes a node
    that has it. CPU is not limited: ranks that are throttled hold up all others."""
    gpus = str(topology.gpus_per_node) if topology.gpus_per_node else None
    limits = given({"memory": topology.memory, topology.accelerator.resource: gpus})
    requests = given({"cpu": topology.cpu, "ephemeral-storage": str(disk) if disk else None}) | limits
    return given({"requests": requests or None, "limits": limits or None})


def _scheduling(topology: Topology) -> Object:
    """Where GPUs are: on nodes of that product, which often take no other pods. And how long a pod stays on a node that
    is lost: the others wait for it.
    """
    product = topology.accelerator.product if topology.gpus_per_node else None
    taints = _unique([_GPU_TAINT, topology.accelerator.resource]) if topology.gpus_per_node else []
    tolerations: list[Object] = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in taints]
    tolerations += [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _LOST_NODE_SECONDS}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    ]
    return given({"nodeSelector": {_PRODUCT_LABEL: product} if product else None, "tolerations": tolerations})


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))
