"""Models whose parameters config.json does not have: the index of their weights does, or they are rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.model_config import shape_of_file
from zerotune_trainer.sizing.model_folder import WEIGHT_INDEX

DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "num_attention_heads": 128,
    "num_hidden_layers": 61,
    "vocab_size": 129280,
    "torch_dtype": "bfloat16",
}


def config(folder: Path, content: dict[str, Any], total_size: object = None) -> Path:
    (folder / "config.json").write_text(json.dumps(content))
    if total_size is not None:
        (folder / WEIGHT_INDEX).write_text(json.dumps({"metadata": {"total_size": total_size}, "weight_map": {}}))
    return folder / "config.json"


def test_unknown_experts_without_an_index_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the experts of model_type 'deepseek_v3' cannot be counted") as caught:
        shape_of_file(config(tmp_path, DEEPSEEK))
    assert WEIGHT_INDEX in caught.value.hint


def test_unknown_experts_are_counted_by_the_size_of_the_weights(tmp_path: Path) -> None:
    shape = shape_of_file(config(tmp_path, DEEPSEEK, 2 * 684_531_386_000))
    assert (shape.parameters, shape.exact) == (684_531_386_000, False)
    assert shape.largest_layer >= shape.parameters // 61


def test_a_nested_config_is_counted_by_the_size_of_the_weights(tmp_path: Path) -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    whole = {"model_type": "gemma3", "torch_dtype": "bfloat16", "text_config": text}
    assert shape_of_file(config(tmp_path, whole, 8_600_158_944)).parameters == 4_300_079_472


def test_an_architecture_that_is_counted_needs_no_index(tmp_path: Path) -> None:
    llama = DEEPSEEK | {"model_type": "llama", "n_routed_experts": None}
    assert shape_of_file(config(tmp_path, llama, 8)) == shape_of_file(config(tmp_path, llama, 10**12))


@pytest.mark.parametrize("size", ["large", -1, True, 1e300, [], None])
def test_an_index_that_says_nothing_is_as_none(tmp_path: Path, size: object) -> None:
    path = config(tmp_path, DEEPSEEK)
    (tmp_path / WEIGHT_INDEX).write_text(json.dumps({"metadata": {"total_size": size}}))
    with pytest.raises(ConfigurationError, match="cannot be counted"):
        shape_of_file(path)


@pytest.mark.parametrize("content", ["[" * 100_000, "{" * 100_000, '{"text_config": ' * 100_000])
def test_deep_nesting_is_an_error_at_once(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigurationError, match="is not JSON"):
        shape_of_file(tmp_path / "config.json")
