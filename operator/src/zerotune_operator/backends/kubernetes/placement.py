"""Where a job runs on a cluster: names of pods, paths inside them. Pure."""

from __future__ import annotations

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.quantity import parse_quantity
from zerotune_operator.api.topology import Topology
from zerotune_operator.plan import Placement
from zerotune_trainer.errors import ConfigurationError

CACHE_DIR = "/zerotune/cache"
"""Where a pod keeps fetched models and tokenized data."""

CLAIMS_DIR = "/mnt/pvc"
"""Where the claims that `pvc://CLAIM/PATH` names are mounted."""


def place(job: Job, attempt: int, model_uri: str) -> Placement:
    """Where an attempt of `job` runs.

    Args:
        job: The job.
        attempt: Number of the attempt; its pods are those of the Indexed Job `NAME-aATTEMPT`.
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
    return Placement(
        hosts=tuple(host_name(job, attempt, index) for index in range(job.spec.topology.nodes)),
        resolve=resolve,
        model_uri=resolve(model_uri),
        output_uri=output,
        checkpoint_uri=resolve(checkpoints) if checkpoints else f"{output.rstrip('/')}/checkpoints",
        cache_dir=CACHE_DIR,
        backend="kubernetes",
        threads_per_rank=_threads(job.spec.topology),
    )


def _threads(topology: Topology) -> int:
    """A rank's share of the pod's CPUs."""
    ranks = topology.gpus_per_node or topology.processes_per_node or 1
    return max(1, int(parse_quantity(topology.cpu)) // ranks) if topology.cpu else 1


def host_name(job: Job, attempt: int, index: int) -> str:
    """A pod's name in the cluster's DNS. It is qualified, since a search through suffixes delays the first answer."""
    name, namespace = job.metadata.name, job.metadata.namespace
    return f"{name}-a{attempt}-{index}.{name}.{namespace}.svc"


def resolve(uri: str) -> str:
    """A URI as a pod reads it: `pvc://CLAIM/PATH` where the claim is mounted, the rest as it is."""
    scheme, _, rest = uri.partition("://")
    return f"file://{CLAIMS_DIR}/{rest}" if scheme == "pvc" else uri
