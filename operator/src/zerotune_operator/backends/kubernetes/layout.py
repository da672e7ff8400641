"""Where a job runs on a cluster: names of pods, paths inside them. Pure."""

from __future__ import annotations

import re

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.quantity import parse_quantity
from zerotune_operator.api.topology import Topology
from zerotune_operator.backends.kubernetes.objects import Object, attempt_name, service_name
from zerotune_operator.plan import RuntimeLayout
from zerotune_trainer.errors import ConfigurationError

CACHE_DIR = "/zerotune/cache"
"""Where a pod keeps fetched models and tokenized data."""

OFFLOAD_DIR = "/zerotune/offloaded"
"""Where a pod keeps parameters on its node's disk."""

CLAIMS_DIR = "/mnt/pvc"
"""Where the claims that `pvc://CLAIM/PATH` names are mounted."""

CONFIG_MAPS_DIR = "/zerotune/config-maps"
"""Where the ConfigMaps that a job names are mounted."""

_SCHEDULING_SECONDS = 7 * 24 * 3600
"""A pod has a name once it is scheduled, and its peers wait for that. What it waits for is in the status, and for how
long is `runPolicy.activeDeadlineSeconds` to say: the launchers need not give up before."""

_CLAIM_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def place(job: Job, attempt: int, model_uri: str) -> RuntimeLayout:
    """Where an attempt of `job` runs.

    Args:
        job: The job.
        attempt: Number of the attempt; its pods are those of the Indexed Job `objects.attempt_name`.
        model_uri: The model as the spec names it, or the output of the FineTuneJob that it names.

    Raises:
        ConfigurationError: `output.uri` is missing: a pod's own disk goes away with it.
    """
    if job.spec.output.uri is None:
        raise ConfigurationError(
            "output.uri is missing, and the job runs on Kubernetes", "name s3://... or pvc://CLAIM/..."
        )
    output = resolve(job.spec.output.uri)
    checkpoints = job.spec.checkpoint.uri if isinstance(job, FineTuneJob) else None
    return RuntimeLayout(
        hosts=host_names(None, job, attempt),
        resolve=resolve,
        model_uri=resolve(model_uri),
        model_source=model_uri,
        output_uri=output,
        checkpoint_uri=resolve(checkpoints) if checkpoints else f"{output.rstrip('/')}/checkpoints",
        cache_dir=CACHE_DIR,
        offload_dir=OFFLOAD_DIR,
        config_maps_uri=f"file://{CONFIG_MAPS_DIR}",
        backend="kubernetes",
        threads_per_rank=_threads(job.spec.topology),
        name_resolution_timeout_seconds=_SCHEDULING_SECONDS,
    )


def _threads(topology: Topology) -> int:
    """A rank's share of the pod's CPUs."""
    ranks = topology.gpus_per_node or topology.processes_per_node or 1
    return max(1, int(parse_quantity(topology.cpu)) // ranks) if topology.cpu else 1


def host_names(made: Object | None, job: Job, attempt: int) -> tuple[str, ...]:
    """The names in the cluster's DNS of the pods of an attempt, by their index. They have the namespace, as the
    operator asks for them from another one.

    Args:
        made: The batch/v1 Job of the attempt, where there is one: it may be of another version of zerotune.
        job: The job.
        attempt: Number of the attempt.
    """
    spec = made["spec"] if made else {}
    name = made["metadata"]["name"] if made else attempt_name(job, attempt)
    domain = spec.get("template", {}).get("spec", {}).get("subdomain", service_name(job))
    nodes = spec.get("completions", job.spec.topology.replicas * job.spec.topology.nodes)
    return tuple(f"{name}-{index}.{domain}.{job.metadata.namespace}.svc" for index in range(nodes))


def resolve(uri: str) -> str:
    """A URI as a pod reads it: `pvc://CLAIM/PATH` where the claim is mounted, the rest as it is."""
    scheme, _, rest = uri.partition("://")
    return f"file://{CLAIMS_DIR}/{rest}" if scheme == "pvc" else uri


def as_written(text: str) -> str:
    """A message of a pod, its paths on claims as a user writes them."""
    return text.replace(f"file://{CLAIMS_DIR}/", "pvc://").replace(f"{CLAIMS_DIR}/", "pvc://")


def claim_of(uri: str) -> str | None:
    """The claim that a URI as a pod reads it lies on; None where it lies elsewhere.

    Raises:
        ConfigurationError: what stands for the claim cannot be the name of one.
    """
    folder = f"file://{CLAIMS_DIR}/"
    if not uri.startswith(folder):
        return None
    claim = uri.removeprefix(folder).partition("/")[0]
    if len(claim) > 253 or not _CLAIM_NAME.fullmatch(claim):
        raise ConfigurationError(
            f"pvc://{uri.removeprefix(folder)} names the claim {claim!r}, which is no name of a PersistentVolumeClaim",
            "write pvc://CLAIM/PATH, the claim as `kubectl get persistentvolumeclaims` shows it",
        )
    return claim
