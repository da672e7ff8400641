"""Whether instance types have the GPUs that a topology asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zerotune_operator.backends.sagemaker.instances import instance_type
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError


def require_gpus(name: str, wanted: int) -> None:
    """See that an instance of a type has so many GPUs; one that is not known has what the topology says.

    Raises:
        ConfigurationError: it has others.
    """
    known = instance_type(name)
    if known is not None and known.gpus != wanted:
        raise ConfigurationError(
            f"topology.gpusPerNode is {wanted}, and an instance of type {name} has {counted(known.gpus, 'GPU')}",
            f"set topology.gpusPerNode to {known.gpus}, or choose another backend.sagemaker.instanceType",
        )


def unsuitable(names: Sequence[str], wanted: int) -> dict[str, str]:
    """The instance types without GPUs for a job on GPUs, and those with GPUs for a job on CPU, and why.

    Any number of GPUs will do: each type has a plan of its own.
    """
    counts = {name: known.gpus for name in names if (known := instance_type(name)) is not None}
    return {
        name: f"an instance has {counted(count, 'GPU') if count else 'no GPUs'}, and topology.gpusPerNode is {wanted}"
        for name, count in counts.items()
        if (count > 0) != (wanted > 0)
    }


def require_one_with(names: Sequence[str], wanted: int, left_out: Mapping[str, str]) -> None:
    """See that one of several instance types has so many GPUs: else the number is a mistake.

    Args:
        names: The instance types.
        wanted: `topology.gpusPerNode`.
        left_out: Those that are unsuitable.

    Raises:
        ConfigurationError: none has.
    """
    found = {name: known.gpus if (known := instance_type(name)) else wanted for name in names}
    if all(count != wanted for name, count in found.items() if name not in left_out):
        listed = ", ".join(f"{name} has {count}" for name, count in found.items())
        raise ConfigurationError(
            f"topology.gpusPerNode is {wanted}, and none of backend.sagemaker.instanceTypes has so many GPUs: {listed}",
            f"set topology.gpusPerNode to {next(iter(found.values()))}, or name other instance types",
        )
