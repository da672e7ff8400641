"""What keeps a model from loading, and that only one rank copies it to save it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zerotune_trainer import errors
from zerotune_trainer.config.sources import Model

pytestmark = pytest.mark.slow


def load(folder: Path) -> None:
    from zerotune_trainer.model import load_model

    load_model(Model(uri=f"file://{folder}"), folder, "fp32", "cpu")


def failing(case: str) -> Exception:
    import torch
    from torch.distributed import DistBackendError, DistNetworkError

    return {
        "device memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        "host memory": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        "gloo": RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1"),
        "nccl": DistBackendError("NCCL error in: a.cpp:94, unhandled system error"),
        "network": DistNetworkError("failed to recv, got 0 bytes"),
        "device": torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered", 214),
        "disk": OSError(errno.EIO, os.strerror(errno.EIO), "/model/model.safetensors"),
        "volume": OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), "/model/model.safetensors"),
        "access": PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/model/config.json"),
        "words": OSError("/model does not appear to have a file named config.json"),
        "class": ValueError("Unrecognized configuration class"),
    }[case]


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        ("device memory", [errors.OutOfMemoryError]),
        ("host memory", [errors.OutOfMemoryError]),
        ("gloo", [errors.PeerLostError]),
        ("nccl", [errors.PeerLostError, errors.InternalError]),
        ("network", [errors.PeerLostError, errors.InternalError]),
        ("device", [errors.InternalError]),
        ("disk", [errors.TemporaryError]),
        ("volume", [errors.TemporaryError, errors.InternalError]),
        ("access", [errors.ConfigurationError]),
        ("words", [errors.ConfigurationError]),
        ("class", [errors.ConfigurationError]),
    ],
)
def test_only_the_folders_own_faults_are_never_tried_again(
    case: str, kinds: list[type[errors.ZerotuneError]], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    def fail(*_: Any, **__: Any) -> None:
        raise failing(case)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(errors.ZerotuneError) as caught:
        load(model_folder)
    assert type(caught.value) in kinds
    assert caught.value.hint


def test_broken_weights_are_the_folders_fault(model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(errors.ConfigurationError, match="does not load as a causal language model") as caught:
        load(folder)
    assert "a complete Hugging Face folder" in caught.value.hint


@pytest.mark.parametrize(
    ("stage", "rank", "asks", "writes"),
    [(2, 0, True, True), (2, 1, False, False), (3, 0, True, True), (3, 1, True, False)],
)
def test_below_stage_3_the_rank_that_writes_alone_copies_the_model(
    stage: int, rank: int, asks: bool, writes: bool
) -> None:
    from zerotune_trainer.training.trainer import CausalTrainer

    asked: list[None] = []
    trainer = SimpleNamespace(
        model=None,
        args=SimpleNamespace(process_index=rank),
        engine=SimpleNamespace(zero_optimization_stage=lambda: stage),
        accelerator=SimpleNamespace(get_state_dict=lambda engine: {"weights": asked.append(engine)}),
        model_wrapped=None,
    )
    weights = CausalTrainer.gather_weights(cast(Any, trainer))
    assert (asked, weights) == ([None] * asks, {"weights": None} if writes else None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(model_folder: Path, tmp_path: Path, value: float) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(errors.ConfigurationError, match=r"not finite in torch\.float32: model\.norm\.weight") as caught:
        load(folder)
    assert "as it was before" in caught.value.hint


def test_attention_auto_falls_back_to_eager_where_a_model_has_no_sdpa(tmp_path: Path) -> None:
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    from zerotune_trainer.model import load_model

    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    assert not GPTNeoForCausalLM._supports_sdpa
    GPTNeoForCausalLM(GPTNeoConfig(vocab_size=64, max_position_embeddings=32, **shape)).save_pretrained(tmp_path)
    loaded = load_model(Model(), tmp_path, "fp32", "cpu")
    assert loaded.config._attn_implementation == "eager"
