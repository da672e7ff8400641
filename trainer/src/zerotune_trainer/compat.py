"""Every change to a library that it offers no option for, each with the versions that it was written for.

With another version a change is not made, and the log says so: what it does is a matter of seconds or of one figure.
"""

from __future__ import annotations

import functools
import importlib
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, ClassVar

from zerotune_trainer.without_mlflow import deepspeed

# isort: split
import torch
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.runtime.swap_tensor.partitioned_param_swapper import AsyncPartitionedParameterSwapper
from deepspeed.runtime.utils import clip_grad_norm_
from deepspeed.runtime.zero.config import ZeroStageEnum
from packaging.specifiers import SpecifierSet
from torch.distributed import distributed_c10d

from zerotune_trainer.errors import InternalError

DEEPSPEED = "~=0.19.0"
"""The versions of DeepSpeed that are changed here."""
TRANSFORMERS = "~=5.23"
ACCELERATE = "~=1.15"
TRL = "~=1.16.0"
_log = logging.getLogger(__name__)


def applies(distribution: str, versions: str) -> bool:
    """Whether the installed version is one of those that a change was written for."""
    installed = version(distribution)
    if installed in SpecifierSet(versions):
        return True
    _log.warning("%s %s is installed, and is left as it is: changes are for %s", distribution, installed, versions)
    return False


def without_shm_op() -> None:
    """Keep `init_distributed` on CPU from compiling its shared-memory all-reduce, which takes a minute.

    It serves inference all-reduce only, and gloo does the same.
    """
    if applies("deepspeed", DEEPSPEED):
        # By name: in deepspeed.comm, `torch` is PyTorch as often as it is this module.
        backend: Any = importlib.import_module("deepspeed.comm.torch")
        backend.build_shm_op = lambda: None


def import_muon_lazily() -> None:
    """Import the Muon optimizer, which every ZeRO stage does, without the compiler that decorates it (10 to 20 s).

    Its functions are compiled at their first call instead, so Muon works as it does otherwise.
    """
    if not applies("deepspeed", DEEPSPEED):
        return
    original = deepspeed.runtime.compiler.compile
    deepspeed.runtime.compiler.compile = _compile_at_first_call
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")
    finally:
        deepspeed.runtime.compiler.compile = original


@contextmanager
def datasets_on_demand() -> Iterator[None]:
    """Wrap the import of transformers' Trainer: `datasets`, and the pandas that comes with it, are imported where they
    are used, which in our jobs is nowhere. They take a seventh of the CPU time of a start.

    Trainer and accelerate ask whether there is `datasets` to see whether rows are of a class of it, which they cannot
    be where nobody has imported it. Who has, such as TRL, gets what it gets otherwise.
    """
    if not (applies("transformers", TRANSFORMERS) and applies("accelerate", ACCELERATE)):
        yield
        return
    utils: Any = importlib.import_module("transformers.utils")
    is_available, utils.is_datasets_available = utils.is_datasets_available, _datasets_is_imported
    try:
        yield
    finally:
        utils.is_datasets_available = is_available
    trainer: Any = importlib.import_module("transformers.trainer")
    loader: Any = importlib.import_module("accelerate.data_loader")
    trainer.datasets, loader.is_datasets_available = _Datasets(), _datasets_is_imported


@contextmanager
def keep_in_cpu(is_kept: Callable[[int], bool]) -> Iterator[None]:
    """Keep some of the parameters that are offloaded to NVMe in host memory. `max_in_cpu` of DeepSpeed's settings does
    that for training alone.

    Args:
        is_kept: Whether the next partition, of so many numbers, is one of them; asked as they are made.
    """
    if not applies("deepspeed", DEEPSPEED):
        yield
        return
    original = AsyncPartitionedParameterSwapper.swappable_tensor
    AsyncPartitionedParameterSwapper.swappable_tensor = lambda swapper, param=None, numel=None: (
        original(swapper, param, numel) and (numel is None or not is_kept(numel))
    )
    try:
        yield
    finally:
        AsyncPartitionedParameterSwapper.swappable_tensor = original


def plain_object_collectives() -> None:
    """Have torch's object collectives, which libraries use, unpickle plain data alone: no other rank may run code here.

    Raises:
        InternalError: this version of torch unpickles elsewhere.
    """
    if not hasattr(distributed_c10d, "_unpickler"):
        raise InternalError(
            f"torch {version('torch')} unpickles what other ranks send in a way that is not known here",
            "use the version of torch that the trainer's requirements name",
        )
    distributed_c10d._unpickler = _PlainUnpickler


def keep_process_group() -> None:
    """Let scripts that make and destroy torch's process group use the one that is there, as DeepSpeed's own do."""
    dist: Any = torch.distributed
    dist.init_process_group = dist.destroy_process_group = lambda *_args, **_options: None


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, and lists and dictionaries of them, and what accelerate sends about a batch."""

    _known: ClassVar[set[tuple[str, str]]] = {
        ("torch", "Size"),
        ("accelerate.utils.dataclasses", "TensorInformation"),
        *(("torch", name) for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
    }

    def find_class(self, module: str, name: str) -> Any:
        """The class or function that a pickle names.

        Raises:
            UnpicklingError: it is none of those known.
        """
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(f"another rank sent an object of {module}.{name}: only plain data is read")
        return super().find_class(module, name)


def keep_grad_norm() -> None:
    """Have ZeRO-0 engines in fp32 keep the gradient norm that they compute for clipping and throw away.

    At other stages and precisions an optimizer wrapper keeps it.
    """
    if applies("deepspeed", DEEPSPEED):
        DeepSpeedEngine.clip_fp32_gradients = _clip_and_keep


def pickle_stages_by_value() -> None:
    """Have DeepSpeed's checkpoints hold a ZeRO stage as Python 3.11.4 and later write it, by its value.

    Python 3.11.0 to 3.11.3, of which Debian 12 has one, pickles an enumeration as a call of `getattr`, which no reader
    of a checkpoint allows: with it a file could reach any function.
    """
    ZeroStageEnum.__reduce_ex__ = lambda stage, _: (ZeroStageEnum, (stage.value,))


@functools.cache
def use_small_logit_tiles() -> None:
    """Have TRL's kernel project 1024 tokens at a time, not 4096: a tile and what is made of it take a quarter."""
    if applies("trl", TRL):
        kernel: Any = importlib.import_module("trl.kernels.chunked_logprob")
        kernel.TOKEN_CHUNK_SIZE = 1024


def _datasets_is_imported() -> bool:
    return "datasets" in sys.modules


class _Datasets:
    """Stands for the module `datasets` until an attribute of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("datasets"), name)


def _clip_and_keep(engine: DeepSpeedEngine) -> None:
    norm = clip_grad_norm_(engine.module.parameters(), max_norm=engine.gradient_clipping(), mpu=engine.mpu)
    engine._global_grad_norm = float(norm)


def _compile_at_first_call(*_args: Any, **_options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[[], Callable[..., Any]] = functools.cache(lambda: torch.compile(function))
        return functools.wraps(function)(lambda *args, **kwargs: compiled()(*args, **kwargs))

    return decorate
