"""A job over a quantized base: what the base takes, and that ZeRO stage 3 is never chosen for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan.candidates import models, workload
from tests.unit.plan.conftest import PlanOf, shape_of
from zerotune_operator.plan.plan import DoesNotFitError
from zerotune_trainer.config.adapter import Quantization
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.config.training import Zero
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.candidates import choose_candidate
from zerotune_trainer.sizing.memory import estimate_memory
from zerotune_trainer.sizing.quantized_base import quantized_parameters, saved_bytes
from zerotune_trainer.sizing.shape import read_shape

GPU = {"gpusPerNode": 1, "accelerator": {"memory": "24Gi"}, "memory": "64Gi"}


def test_a_70b_base_takes_what_the_authors_of_qlora_give() -> None:
    """4.127 bits of a quantized weight (arXiv 2305.14314, section 3), and bf16 for embeddings, head and norms."""
    shape = shape_of("llama-3.1-70b")
    count = quantized_parameters(shape)
    assert count == shape.parameters - 2 * shape.vocab_size * shape.hidden_size - (2 * 80 + 1) * shape.hidden_size
    assert 2 * count - saved_bytes(shape, "nf4", 2) == pytest.approx(count * 4.127 / 8, rel=1e-4)
    assert 2 * count - saved_bytes(shape, "int8", 2) == pytest.approx(count, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "quantization"),
    [
        *((name, "nf4") for name in ("llama", "qwen3", "gemma2", "gpt_neox", "opt", "phi3", "mixtral")),
        ("llama", "fp4"),
        ("llama", "int8"),
        ("gpt2", "int8"),
    ],
)
def test_bytes_are_those_of_a_real_quantized_model(model_type: str, quantization: Quantization, tmp_path: Any) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tests.trainer.training.test_qlora import quantized

    config = AutoConfig.for_model(
        model_type,
        hidden_size=256,
        intermediate_size=512,
        ffn_dim=512,
        n_inner=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4 if model_type in ("gpt_neox", "opt", "gpt2") else 2,
        head_dim=64,
        vocab_size=128,
        tie_word_embeddings=False,
        word_embed_proj_dim=256,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, quantization_config=quantized(quantization), device_map="cpu"
    )
    shape = read_shape(config.to_dict())
    held = sum(_bytes(each) for each in model.parameters())
    assert 4 * shape.parameters - saved_bytes(shape, quantization, 4) == pytest.approx(held, rel=0.001)


def _bytes(parameter: Any) -> int:
    state = getattr(parameter, "quant_state", None)
    constants = [state.absmax, state.state2.absmax] if state else [parameter.SCB] if hasattr(parameter, "SCB") else []
    return int(sum(each.numel() * each.element_size() for each in (parameter, *constants)))


def test_the_plan_of_a_quantized_base_fits_where_that_of_lora_does_not(plan_training: PlanOf) -> None:
    spec: dict[str, Any] = {"topology": GPU, "training": {"gradientCheckpointing": True}}
    planned = plan_training("llama-3.1-8b", adapter={"type": "qlora"}, **spec)
    assert planned.candidate is not None
    trained = 41_943_040
    assert planned.candidate.weights == 2 * (planned.shape.parameters + trained) - saved_bytes(planned.shape, "nf4", 2)
    assert planned.candidate.weights < 6 * 10**9
    assert (planned.candidate.gradients, planned.candidate.optimizer) == (2 * trained, 12 * trained)
    small = spec | {"topology": GPU | {"accelerator": {"memory": "12Gi"}}}
    assert plan_training("llama-3.1-8b", adapter={"type": "qlora"}, **small).candidate is not None
    with pytest.raises(DoesNotFitError):
        plan_training("llama-3.1-8b", adapter={"type": "lora"}, **small, zero={"offloadParam": "none"})


@given(models, st.sampled_from(["nf4", "fp4", "int8"]), st.integers(1, 64), st.sampled_from([None, 1 << 30, 1 << 40]))
def test_stage_3_is_never_chosen_for_a_quantized_base(
    shape: ModelShape, quantization: Quantization, ranks: int, memory: int | None
) -> None:
    load = workload(
        shape,
        adapter_parameters=1000,
        base_quantization=quantization,
        data_parallel=ranks,
        ranks_per_node=1,
        device_bytes=memory,
    )
    candidates = choose_candidate(load, Zero())
    assert not any(each.taken or each.allowed for each in candidates if each.stage == 3)
    plain = estimate_memory(load.model_copy(update={"base_quantization": None}))
    assert all(ours.weights < theirs.weights for ours, theirs in zip(candidates[:3], plain[:3], strict=True))


@pytest.mark.parametrize("zero", [{"stage": 3}, {"offload_param": {"device": "cpu"}}])
def test_deepspeeds_own_settings_ask_for_no_stage_3_either(plan_training: PlanOf, zero: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="a quantized base is whole on each rank"):
        plan_training(adapter={"type": "qlora"}, deepspeed={"zero_optimization": zero})


def test_a_model_without_layers_to_quantize_is_rejected(plan_training: PlanOf) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512}
    falcon = read_shape(sizes | {"model_type": "falcon"})
    with pytest.raises(ConfigurationError, match="bitsandbytes quantizes no layer of a model of type falcon"):
        plan_training(falcon, adapter={"type": "qlora"})


def test_the_plan_says_that_experts_are_not_quantized(plan_training: PlanOf) -> None:
    mixtral = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape = read_shape(mixtral | {"model_type": "mixtral", "num_local_experts": 8, "vocab_size": 512})
    notes = plan_training(shape, adapter={"type": "qlora"}).notes
    assert any("are quantized, not the experts of a mixtral model" in note for note in notes)
    assert not any("experts" in note for note in plan_training(shape, adapter={"type": "lora"}).notes)
