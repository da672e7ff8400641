"""Models with quantized weights: no job trains them, and only those that load everywhere generate."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.plan.conftest import GOLDEN
from zerotune_operator.plan import Plan
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.shape import read_shape

PlanOf = Callable[..., Plan]
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
OTHERS: dict[str, Any] = {
    "gptq": {"quant_method": "gptq", "bits": 4},
    "awq": {"quant_method": "awq", "bits": 4},
    "bitsandbytes": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    "future_q": {"quant_method": "future_q"},
    "unknown": {},
}


def quantized(settings: Any, key: str = "quantization_config", *, nested: bool = False) -> ModelShape:
    config = json.loads((GOLDEN / "models" / "tiny-llama.json").read_text())
    if nested:
        return read_shape({"model_type": "two_towers", "text_config": config | {key: settings}})
    return read_shape(config | {key: settings})


@pytest.mark.parametrize("method", ["fp8", *OTHERS])
def test_a_quantized_model_is_not_trained(plan_training: PlanOf, method: str) -> None:
    with pytest.raises(ConfigurationError) as rejected:
        plan_training(on=quantized(OTHERS.get(method, FP8)))
    assert f"the weights are quantized ({method})" in rejected.value.message
    assert "in bf16 or fp32" in rejected.value.hint


@pytest.mark.parametrize("method", OTHERS)
def test_a_quantized_model_that_needs_a_package_does_not_generate(plan_inference: PlanOf, method: str) -> None:
    with pytest.raises(ConfigurationError) as rejected:
        plan_inference(on=quantized(OTHERS[method]))
    assert f"the weights are quantized ({method}), which the trainer cannot load" in rejected.value.message
    assert "or quantized as fp8" in rejected.value.hint


def test_fp8_generates(plan_inference: PlanOf) -> None:
    assert plan_inference(on=quantized(FP8)).config.model_shape


@pytest.mark.parametrize(("key", "nested"), [("compression_config", False), ("quantization_config", True)])
def test_quantization_is_found_where_older_and_nested_configs_have_it(
    plan_training: PlanOf, key: str, nested: bool
) -> None:
    with pytest.raises(ConfigurationError, match=r"the weights are quantized \(awq\)"):
        plan_training(on=quantized(OTHERS["awq"], key, nested=nested))


def test_a_null_in_the_config_quantizes_nothing(plan_training: PlanOf) -> None:
    assert plan_training(on=quantized(None)).config
