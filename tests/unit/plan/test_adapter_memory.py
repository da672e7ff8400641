"""What an adapter takes: its parameters as peft counts them, and memory for no more than is trained."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plan.conftest import PlanOf, shape_of
from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.sizing.adapter_parameters import adapter_parameters
from zerotune_trainer.sizing.flops import flops_per_token
from zerotune_trainer.sizing.shape import read_shape

LORA = {"type": "lora"}
LLAMA_2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}


def adapter(**fields: Any) -> Adapter:
    return Adapter.model_validate(LORA | fields)


def test_published_counts_of_trainable_parameters() -> None:
    """As peft prints them: Llama 2 7B with r 8 on queries and values; Llama 3.1 8B with r 16 on all linear layers."""
    assert adapter_parameters(read_shape(LLAMA_2_7B), adapter(r=8, targetModules=["q_proj", "v_proj"])) == 4_194_304
    assert adapter_parameters(shape_of("llama-3.1-8b"), adapter(r=16)) == 41_943_040


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("llama", {}),
        ("llama", {"useDora": True, "r": 3}),
        ("qwen3", {"targetModules": ["o_proj", "down_proj"]}),
        ("llama", {"targetModules": ["q_proj"], "modulesToSave": ["embed_tokens", "lm_head"]}),
        ("gpt_neox", {"targetModules": ["query_key_value", "dense_h_to_4h", "dense_4h_to_h"]}),
        ("opt", {"targetModules": ["q_proj", "out_proj", "fc1", "fc2"]}),
        ("mixtral", {"modulesToSave": ["lm_head"]}),
    ],
)
def test_counts_are_those_of_peft(model_type: str, fields: dict[str, Any]) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        model_type,
        hidden_size=64,
        intermediate_size=96,
        ffn_dim=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4 if model_type in ("gpt_neox", "opt") else 2,
        head_dim=16,
        vocab_size=128,
        tie_word_embeddings=False,
        word_embed_proj_dim=64,
    )
    asked = adapter(**fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        lora = get_peft_model(
            model,
            LoraConfig(
                r=asked.r,
                target_modules="all-linear" if "targetModules" not in fields else asked.target_modules,
                modules_to_save=asked.modules_to_save or None,
                use_dora=asked.use_dora,
            ),
        )
    counted = sum(each.numel() for each in lora.parameters() if each.requires_grad)
    assert adapter_parameters(read_shape(config.to_dict()), asked) == counted


def test_what_is_frozen_has_neither_gradients_nor_optimizer_state(plan_training: PlanOf) -> None:
    topology = {"gpusPerNode": 1, "accelerator": {"memory": "24Gi"}, "memory": "64Gi"}
    spec: dict[str, Any] = {"topology": topology, "training": {"gradientCheckpointing": True}}
    planned = plan_training("llama-3.1-8b", adapter=LORA, **spec)
    candidate, trained = planned.candidate, 41_943_040
    assert candidate is not None
    assert candidate.name == "ZeRO-0"
    assert candidate.weights == 2 * (planned.shape.parameters + trained)
    assert (candidate.gradients, candidate.optimizer) == (2 * trained, 12 * trained)
    assert candidate.saving == 2 * trained
    merging = plan_training("llama-3.1-8b", adapter=LORA | {"merge": True}, **spec).candidate
    assert merging is not None
    assert merging.saving == 2 * (planned.shape.parameters + 2 * trained)


def test_a_frozen_parameter_costs_four_operations_a_token() -> None:
    shape = shape_of("llama-3.1-8b")
    assert flops_per_token(shape, 0, frozen=True) == 4 * shape.parameters
