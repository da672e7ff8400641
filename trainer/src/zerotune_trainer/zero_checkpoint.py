"""A training checkpoint as the folder of a whole model: its weights, with the configuration of the model it began with.

    ZeRO-0, 1 and 2    every rank holds all weights: they are in one file
    ZeRO-3             each rank has written its part, and nobody has gathered them: DeepSpeed's zero_to_fp32 does

The weights are rounded to the precision of the training: they are those that the job would have written at that step.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_state_dict
from huggingface_hub import save_torch_state_dict

from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.input_errors import input_errors
from zerotune_trainer.manifest import MANIFEST_NAME, read_manifest
from zerotune_trainer.storage.once import complete_or_absent

_STATE_TYPES = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]
"""What DeepSpeed puts into its files beside tensors and plain data."""
MEND = "name another checkpoint: a job removes its old ones, and keeps as many as its checkpoint.saveTotalLimit says"
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf"}
_log = logging.getLogger(__name__)


def allow_state_types() -> None:
    """Let torch.load read what the checkpoints of a job are made of. Called before one is loaded."""
    torch.serialization.add_safe_globals([*_STATE_TYPES])


def whole_model(checkpoint: Path, base: Path, cache: Path) -> Path:
    """The folder of the model that a checkpoint holds, made once for the processes of a host.

    Args:
        checkpoint: The checkpoint's folder.
        base: The folder of the model that the training began with: its configuration and tokenizer are taken.
        cache: The job's cache.

    Raises:
        InputMissingError: the checkpoint is not complete.
        ConfigurationError: it cannot be read.
    """
    if read_manifest(checkpoint) is None:
        raise InputMissingError(f"{checkpoint} is no complete checkpoint: it has no manifest", MEND)
    content = (checkpoint / MANIFEST_NAME).read_bytes() + str(base).encode()
    key = hashlib.sha256(content).hexdigest()[:32]
    return complete_or_absent(cache / "whole" / key, lambda draft: _write(checkpoint, base, draft))


def _write(checkpoint: Path, base: Path, draft: Path) -> None:
    _log.info("the weights of %s are put together", checkpoint)
    for path in filter(Path.is_file, base.iterdir()):
        if path.suffix not in _WEIGHTS and not path.name.endswith(".index.json"):
            shutil.copyfile(path, draft / path.name)
    allow_state_types()
    with input_errors(ConfigurationError, f"{checkpoint} does not load", MEND):
        _write_weights(checkpoint, draft)


def _write_weights(checkpoint: Path, draft: Path) -> None:
    tag = (checkpoint / "latest").read_text().strip()
    partitioned = sorted((checkpoint / tag).glob("zero_pp_rank_*_model_states.pt"))
    path = partitioned[0] if partitioned else checkpoint / tag / "mp_rank_00_model_states.pt"
    weights: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)["module"]
    if not partitioned:
        # ZeRO-1 and 2 keep them in one buffer, of which safetensors writes no views.
        save_torch_state_dict({name: weight.clone() for name, weight in weights.items()}, draft)
        return
    dtype = next(each.dtype for each in weights.values() if each.is_floating_point())
    convert_zero_checkpoint_to_state_dict(str(checkpoint), str(draft), dtype=dtype, safe_serialization=True, tag=tag)
