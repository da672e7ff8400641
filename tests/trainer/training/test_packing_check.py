"""Documents that share a block: a model that lets one see another is rejected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from zerotune_trainer.data.collate import PackingCollator
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.position_ids import mixes_documents
from zerotune_trainer.training.log_probabilities import add_log_probabilities, check_padding_free
from zerotune_trainer.training.packing_check import check_packing

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "ffn_dim": 96,
    "word_embed_proj_dim": 64,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_d_ssm": 128,
    "num_heads": 8,
    "n_groups": 1,
    "state_size": 16,
    "pad_token_id": 0,
}
OWN: dict[str, dict[str, Any]] = {
    "gptj": {"rotary_dim": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "gpt_oss": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
APART = ["llama", "gpt2", "gpt_neox", "gptj", "gemma2", "phi3", "qwen3", "mixtral"]
MIXED = [
    "opt",
    "falcon",
    "bloom",
    "mpt",
    "qwen3_next",
    "falcon_h1",
    "lfm2",
    "mamba2",
    "jamba",
    "gpt_oss",
    "openai-gpt",
    "xglm",
]


def tiny(family: str, **options: Any) -> PreTrainedModel:
    known = AutoConfig.for_model(family)
    names = {
        name for name in SIZES if hasattr(known, name) and not isinstance(getattr(type(known), name, None), property)
    }
    config = AutoConfig.for_model(family, **{name: SIZES[name] for name in names}, **OWN.get(family, {}), **options)
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).train()
    return model


@pytest.mark.parametrize("family", APART)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_follow_position_ids_are_taken(family: str, dtype: torch.dtype) -> None:
    model = tiny(family).to(dtype)
    check_packing(model, PackingCollator(0))
    assert model.training
    assert not mixes_documents(family, flash_attention=False)


@pytest.mark.parametrize("family", MIXED)
def test_models_that_mix_documents_are_rejected(family: str) -> None:
    with pytest.raises(ConfigurationError) as rejected:
        check_packing(tiny(family), PackingCollator(0))
    assert f"bfd_split mixes documents in a model of type {family}" in rejected.value.message
    assert rejected.value.hint == "set data.packing: none, or wrapped, which joins documents on purpose"
    assert mixes_documents(family, flash_attention=False)


def test_falcon_with_alibi_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="mixes documents in a model of type falcon"):
        check_packing(tiny("falcon", alibi=True), PackingCollator(0))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_ranks_reject_before_the_first_step(make_job: Any, model_folder: Path, tmp_path: Path, stage: int) -> None:
    """The weights of stage 3 are shared out: all ranks compute the check together."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    (folder / "config.json").unlink()
    config = AutoConfig.for_model(
        "opt",
        **{name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "ffn_dim")},
        word_embed_proj_dim=64,
        vocab_size=512,
        max_position_embeddings=256,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "opt"
    job = make_job(stage=stage)
    job.config["model"]["uri"] = f"file://{folder}"
    job.config["data"]["packing"] = "bfd_split"
    ended = job.run()

    assert ended.own_exit_codes == {64}, ended.failures
    assert "mixes documents in a model of type opt" in ended.failures[0].message
    assert not (job.output / "metrics.jsonl").exists()


@pytest.mark.parametrize("family", [*APART[:2], *MIXED[:3]])
def test_sequences_of_preferences_share_rows_only_where_documents_may(family: str) -> None:
    model = tiny(family)
    add_log_probabilities(model)
    if family in APART:
        check_padding_free(model, flash_attention=False)
        return
    with pytest.raises(ConfigurationError, match=f"paddingFree mixes sequences in a model of type {family}"):
        check_padding_free(model, flash_attention=False)
