"""Whether training jobs have the instance types that a job names, by botocore's model of the service."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import require_none
from zerotune_operator.api.manifest_yaml import Problem
from zerotune_operator.api.topology import Topology
from zerotune_operator.backends.sagemaker.layout import sagemaker_of
from zerotune_operator.backends.sagemaker.values import instance_types_of


def require_known_types(job: Job) -> None:
    """See that SageMaker has the instance types, or that the spec itself says what they have.

    Raises:
        InvalidManifestError: neither.
    """
    if not _has_numbers(job.spec.topology):
        require_none(_unknown_types(job), job)


def _unknown_types(job: Job) -> Iterator[Problem]:
    for place, name in instance_types_of(sagemaker_of(job)):
        if name not in _known_types():
            close = get_close_matches(name, _known_types(), n=3)
            meant = f"did you mean {' or '.join(close)}? " if close else ""
            yield Problem(
                place,
                f"is {name!r}: training jobs have no such instance type: {meant}One that is newer than this version of "
                "zerotune is taken where topology.memory and, with GPUs, topology.accelerator.memory say what it has",
            )


def _has_numbers(topology: Topology) -> bool:
    """Whether the spec itself says what an instance has."""
    gpu = topology.accelerator
    return topology.memory is not None and (not topology.gpus_per_node or bool(gpu.memory or gpu.product))


@cache
def _known_types() -> tuple[str, ...]:
    """Reading the model takes half a second, once."""
    from botocore.loaders import Loader

    model = Loader().load_service_model("sagemaker", "service-2")
    return tuple(model["shapes"]["TrainingInstanceType"]["enum"])
