"""Models that see the token they are to predict are rejected, whatever they are loaded as."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoTokenizer

from tests.trainer.training.test_packing_check import tiny
from zerotune_trainer.causality import check_causality
from zerotune_trainer.errors import ConfigurationError

ENCODERS = ["bert", "roberta", "electra", "camembert", "roformer", "xlm-roberta"]
DECODERS = ["llama", "gpt2", "gpt_neox", "opt", "bloom", "gemma2", "mixtral", "mamba2", "lfm2", "gpt_oss"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ENCODERS)
def test_an_encoder_is_rejected(architecture: str) -> None:
    with pytest.raises(ConfigurationError, match=f"of type {architecture} predicts tokens from those that follow"):
        check_causality(tiny(architecture))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", DECODERS)
def test_a_decoder_passes(architecture: str, dtype: torch.dtype) -> None:
    check_causality(tiny(architecture).to(dtype))


@pytest.mark.slow
def test_a_job_with_an_encoder_ends_before_its_first_step(make_job: Any, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = cast(Any, tiny("bert"))
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    job = make_job(hosts="127.0.0.1 slots=1\n")
    job.config["model"]["uri"] = folder.as_uri()
    job.config["data"] |= {"maxLength": 32}
    ended = job.run()
    assert ended.exit_codes == [64]
    assert "has no causal mask" in ended.failures[0].message
