"""DeepSpeed's settings as they are read, and whether its engine does as they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from deepspeed.runtime.engine import DeepSpeedEngine
from torch import nn

from zerotune_trainer.errors import ConfigurationError, InputMissingError, InternalError
from zerotune_trainer.without_mlflow import deepspeed

DEEPSPEED_NAME = "deepspeed.json"


def read_deepspeed(folder: Path) -> dict[str, Any]:
    """The `deepspeed.json` of a job's folder.

    Raises:
        InputMissingError: there is none.
        ConfigurationError: it is not a JSON object, or brings a schedule of its own.
    """
    path = folder / DEEPSPEED_NAME
    if not path.is_file():
        raise InputMissingError(f"{path} is not there", "give the folder that `zerotune plan -o json` describes")
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}", "write a JSON object as DeepSpeed documents it") from error
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{path} holds {type(settings).__name__}", "write a JSON object")
    if "scheduler" in settings:
        raise ConfigurationError(
            "deepspeed.scheduler and training.lrSchedulerType both name a schedule of the learning rate",
            "leave `scheduler` out of `deepspeed`: zerotune schedules by `training`",
        )
    return settings


class ParameterCounts(NamedTuple):
    """How many parameters a model has."""

    trained: int
    total: int


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count the parameters of a model, whole also where stage 3 has shared them out or a byte holds two of them."""
    counts = [(_numbers(each), each.requires_grad) for each in model.parameters()]
    return ParameterCounts(sum(count for count, trained in counts if trained), sum(count for count, _ in counts))


def _numbers(parameter: Any) -> int:
    quantized = getattr(parameter, "quant_state", None)
    count: int = parameter.numel() if quantized is None else quantized.shape.numel()
    return getattr(parameter, "ds_numel", count)


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the parameters that are trained, on the host. Every rank calls it: stage 3 has shared them out."""
    weights = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
                weights[name] = parameter.detach().to("cpu", copy=True)
    return weights


def check_precision(engine: DeepSpeedEngine, dtype: torch.dtype) -> None:
    """See that the engine trains in the precision asked for.

    Raises:
        InternalError: it does not.
    """
    enabled = {torch.bfloat16: engine.bfloat16_enabled(), torch.float16: engine.fp16_enabled()}
    wrong_mode = any(on != (mode is dtype) for mode, on in enabled.items())
    # Those of a quantized base are whole numbers.
    dtypes = {parameter.dtype for parameter in engine.module.parameters() if parameter.is_floating_point()}
    if wrong_mode or dtypes != {dtype}:
        raise InternalError(f"asked for {dtype}, DeepSpeed trains parameters of {dtypes} with {enabled}", "report this")
