"""What only a cluster can carry out: an error that says so, never ignored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zerotune_operator.api.jobs import Job
from zerotune_trainer.errors import ConfigurationError

_CLUSTER_ONLY = {
    "backend.kubernetes": "leave it out to run here, or `kubectl apply` the file where the operator is installed",
    "backend.sagemaker": "leave it out to run here: this version does not carry jobs out on SageMaker",
    "topology.cpu": "leave it out: the ranks share the cores that `zerotune run` may use",
    "topology.minNodes": "leave it out: nodes of one machine come and go together",
    "runPolicy.queue": "leave it out: there is no queue on one machine",
    "runPolicy.priorityClass": "leave it out: there are no pods on one machine",
    "runPolicy.ttlSecondsAfterFinished": "leave it out: delete the job's folder when you no longer need it",
}
_CREDENTIALS = "leave it out, and set HF_TOKEN, AWS_ACCESS_KEY_ID, ... in the environment of `zerotune run`"


def require_local(job: Job) -> None:
    """See that one machine can carry out everything the job asks for.

    Raises:
        ConfigurationError: it cannot.
    """
    for path, value in _leaves(job.spec.model_dump(by_alias=True, exclude_unset=True), ""):
        remedy = _CREDENTIALS if path.endswith("credentials") else _CLUSTER_ONLY.get(path)
        if remedy is not None and value is not None:
            raise ConfigurationError(f"{job.kind} {job.metadata.name!r}: {path} is for a cluster", remedy)


def _leaves(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every field that was given, by path: groups before what is in them."""
    for name, part in value.items():
        path = f"{prefix}{name}"
        yield path, part
        if isinstance(part, dict):
            yield from _leaves(part, f"{path}.")
