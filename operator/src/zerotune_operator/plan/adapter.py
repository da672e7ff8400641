"""An adapter goes with the model: it lies on modules that are there, and its rank is one that they can have. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from zerotune_operator.api.jobs import FineTuneJobSpec
from zerotune_trainer.config.adapter import ALL_LINEAR, WHOLE_BASE, Adapter, changes_tied, no_layers, require_same
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.adapter_parameters import highest_rank
from zerotune_trainer.sizing.modules import (
    MODULES,
    last_names,
    saved_and_adapted,
    tied_targets,
    unknown_modules,
    unknown_targets,
)
from zerotune_trainer.sizing.quantized_base import quantized_parameters


def check_names(adapter: Adapter | None) -> None:
    """See that an adapter names no module twice, whatever the model.

    Raises:
        ConfigurationError: it does.
    """
    lists = {"targetModules": adapter.target_modules, "modulesToSave": adapter.modules_to_save} if adapter else {}
    for field, names in lists.items():
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigurationError(f"adapter.{field} names {twice!r} twice", "name each module once")
    if adapter:
        _reject_both(name for name in adapter.modules_to_save if name in adapter.target_modules)


def check_partitioning(spec: FineTuneJobSpec) -> None:
    """See that a quantized base is not partitioned, by what `deepspeed` has of ZeRO either.

    Raises:
        ConfigurationError: it is.
    """
    quantized = spec.adapter is not None and spec.adapter.base_quantization
    if quantized and (spec.zero.stage == 3 or spec.zero.offload_param not in ("auto", "none")):
        raise ConfigurationError(
            f"zero.stage {spec.zero.stage} with offloadParam {spec.zero.offload_param} partitions parameters, and "
            f"{WHOLE_BASE}",
            "set zero.stage to 0, 1, 2 or auto and zero.offloadParam to none or auto, or use adapter.type: lora",
        )


def check_adapter(spec: FineTuneJobSpec, shape: ModelShape) -> None:
    """See that the model has what the adapter names, once. What code of the model's own builds is not known.

    Raises:
        ConfigurationError: it does not.
    """
    adapter = spec.adapter
    if adapter is None:
        return
    check_names(adapter)
    check_partitioning(spec)
    if adapter.base_quantization and not quantized_parameters(shape):
        raise no_layers(shape.architecture)
    if shape.adapter is not None:
        require_same(shape.adapter, adapter, _source(spec))
    if shape.exact and not spec.model.trust_remote_code:
        _check_modules(shape, adapter)
    highest = highest_rank(shape, adapter)
    if adapter.r > highest:
        raise ConfigurationError(
            f"adapter.r {adapter.r} exceeds {highest}, the highest rank that a change to the adapted layers of the "
            f"{shape.architecture} model can have",
            f"set adapter.r to {highest} or less (16 is usual), or train all parameters: leave adapter out",
        )


def adapter_notes(spec: FineTuneJobSpec, shape: ModelShape) -> list[str]:
    """What the plan says of a quantized base, and of an adapter that training goes on with."""
    return [*_notes_on_base(spec, shape), *_notes_on_stored(spec, shape)]


def _notes_on_base(spec: FineTuneJobSpec, shape: ModelShape) -> list[str]:
    if spec.adapter is None or not spec.adapter.base_quantization or not shape.experts_per_token:
        return []
    share = quantized_parameters(shape) / shape.parameters
    name = shape.architecture
    return [f"adapter.type qlora: {share:.0%} of the parameters are quantized, not the experts of a {name} model"]


def _notes_on_stored(spec: FineTuneJobSpec, shape: ModelShape) -> list[str]:
    stored, known = shape.adapter, set(last_names(shape)) if shape.architecture in MODULES else set()
    if stored is None or spec.adapter is None or spec.adapter.target_modules != [ALL_LINEAR]:
        return []
    names = stored.target_modules or []
    missing = sorted(known - {name.rpartition(".")[2] for name in names})
    if not names or not missing:
        return []
    lacks = f"{_source(spec)} holds an adapter that does not lie on {', '.join(missing)}"
    return [f"adapter.targetModules is {ALL_LINEAR}, and {lacks}: training goes on with the adapter as it is"]


def _source(spec: FineTuneJobSpec) -> str:
    """What names the folder of the adapter that training goes on with."""
    job = spec.model.from_fine_tune_job
    return f"model.uri {spec.model.uri}" if job is None else f"the output of model.fromFineTuneJob: {job!r}"


def _check_modules(shape: ModelShape, adapter: Adapter) -> None:
    if unknown := unknown_targets(shape, adapter):
        raise _no_such_module("targetModules", unknown[0], shape, last_names(shape), f"; or {ALL_LINEAR}")
    if unknown := unknown_modules(shape, adapter):
        raise _no_such_module("modulesToSave", unknown[0], shape, last_names(shape, whole=True), "")
    _reject_both(saved_and_adapted(shape, adapter))
    for name in tied_targets(shape, adapter):
        raise changes_tied(f"adapter.targetModules names {name!r}")


def _reject_both(names: Iterable[str]) -> None:
    for name in names:
        raise ConfigurationError(
            f"adapter.modulesToSave names {name!r}, which gets an adapter by adapter.targetModules",
            "a module is trained whole or by an adapter: name it in one of the two",
        )


def _no_such_module(field: str, name: str, shape: ModelShape, names: list[str], otherwise: str) -> ConfigurationError:
    close = get_close_matches(name.rpartition(".")[2], names, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return ConfigurationError(
        f"adapter.{field} names {name!r}, and the {shape.architecture} model of {shape.layers} layers has no such "
        "module",
        f"{meant}name modules that it has, such as {', '.join(names)}{otherwise}",
    )
