"""What DeepSpeed needs from us: no compiler at start, and a gradient norm at every ZeRO stage."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import deepspeed.runtime.compiler
import torch
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.runtime.utils import clip_grad_norm_

from zerotune_trainer.errors import ConfigurationError, InputMissingError, InternalError

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


def without_shm_op() -> None:
    """Keep `init_distributed` on CPU from compiling its shared-memory all-reduce, which takes a minute.

    It serves inference all-reduce only, and gloo does the same.
    """
    # By name: in deepspeed.comm, `torch` is PyTorch as often as it is this module.
    backend: Any = importlib.import_module("deepspeed.comm.torch")
    backend.build_shm_op = lambda: None


def import_muon_lazily() -> ModuleType:
    """Import the Muon optimizer, which every ZeRO stage does, without the compiler that decorates it.

    Its functions are compiled at their first call instead, so Muon works as it does otherwise.
    """
    original = deepspeed.runtime.compiler.compile
    deepspeed.runtime.compiler.compile = _compile_at_first_call
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer as muon
    finally:
        deepspeed.runtime.compiler.compile = original
    return muon  # type: ignore[no-any-return]


def check_precision(engine: DeepSpeedEngine, dtype: torch.dtype) -> None:
    """See that the engine trains in the precision asked for.

    Raises:
        InternalError: it does not.
    """
    enabled = {torch.bfloat16: engine.bfloat16_enabled(), torch.float16: engine.fp16_enabled()}
    wrong_mode = any(on != (mode is dtype) for mode, on in enabled.items())
    dtypes = {parameter.dtype for parameter in engine.module.parameters()}
    if wrong_mode or dtypes != {dtype}:
        raise InternalError(f"asked for {dtype}, DeepSpeed trains parameters of {dtypes} with {enabled}", "report this")


def report_grad_norm(engine: DeepSpeedEngine) -> None:
    """Have a ZeRO-0 engine in fp32 keep the gradient norm that it computes for clipping and throws away.

    At other stages and precisions an optimizer wrapper keeps it (engine.clip_fp32_gradients, deepspeed 0.19).
    """
    if engine.zero_optimization_stage() == 0:
        engine.clip_fp32_gradients = functools.partial(_clip_and_keep, engine)


def _clip_and_keep(engine: DeepSpeedEngine) -> None:
    norm = clip_grad_norm_(engine.module.parameters(), max_norm=engine.gradient_clipping(), mpu=engine.mpu)
    engine._global_grad_norm = float(norm)


def _compile_at_first_call(*_args: Any, **_options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[[], Callable[..., Any]] = functools.cache(lambda: torch.compile(function))
        return functools.wraps(function)(lambda *args, **kwargs: compiled()(*args, **kwargs))

    return decorate
