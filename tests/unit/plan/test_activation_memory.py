"""What layers keep for the backward pass, as planned and as autograd saves it, on models of real width ratios."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.activations import layer_bytes
from zerotune_trainer.sizing.shape import read_shape
from zerotune_trainer.sizing.workload import Workload, default_settings

pytestmark = pytest.mark.slow

LENGTH = 64
SIZES = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def sizes(hidden: int, heads: int, kv: int, mlp: int, **more: Any) -> dict[str, Any]:
    return SIZES | {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": mlp,
        **more,
    }


LLAMA_8B = sizes(256, 8, 2, 896)
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", LLAMA_8B),
    ("llama", sizes(256, 8, 8, 688)),
    ("mistral", LLAMA_8B),
    ("granite", LLAMA_8B),
    ("qwen2", sizes(224, 7, 1, 1184)),
    ("qwen3", sizes(256, 8, 2, 768, head_dim=32)),
    ("qwen3", sizes(160, 8, 4, 480, head_dim=32)),
    ("gemma", sizes(192, 6, 6, 1536, head_dim=64)),
    ("gemma3_text", sizes(160, 4, 2, 640, head_dim=64)),
    ("olmo2", LLAMA_8B),
    ("phi3", sizes(192, 6, 6, 512)),
    ("phi", sizes(160, 5, 5, 640)),
    ("stablelm", LLAMA_8B),
    ("starcoder2", sizes(288, 9, 1, 1152)),
    ("cohere", sizes(256, 8, 8, 704)),
    ("exaone4", sizes(256, 8, 2, 896)),
    ("glm4", sizes(256, 8, 1, 856, head_dim=32)),
    ("gpt_neox", sizes(256, 8, 8, 1024)),
    ("gpt2", {"n_embd": 256, "n_head": 8, "n_positions": 256, "vocab_size": 64, "attn_pdrop": 0.0}),
    ("opt", sizes(256, 8, 8, 1024, ffn_dim=1024, word_embed_proj_dim=256, max_position_embeddings=128)),
    ("falcon", {"hidden_size": 256, "num_attention_heads": 8, "vocab_size": 64}),
    ("qwen3_moe", sizes(128, 4, 2, 384, head_dim=32, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=96)),
]
NAMES = [f"{model_type}-{number}" for number, (model_type, _) in enumerate(MODELS)]


def model_of(model_type: str, options: dict[str, Any], layers: int, dtype: torch.dtype, attention: str) -> Any:
    count = {"gpt2": "n_layer"}.get(model_type, "num_hidden_layers")
    config = CONFIG_MAPPING[model_type](**options | {count: layers})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(dtype).train()


def saved_bytes(model: Any, **inputs: Any) -> int:
    """Bytes of all storages that autograd keeps, those of the weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in chain(model.parameters(), model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=torch.ones(1, LENGTH, dtype=torch.long), use_cache=False, **inputs).logits.sum()
    assert loss.requires_grad
    return sum(each.untyped_storage().nbytes() for pointer, each in kept.items() if pointer not in weights)


def workload(shape: ModelShape, **changes: Any) -> Workload:
    options: dict[str, Any] = {
        "shape": shape,
        "precision": "bf16",
        "micro_batch": 1,
        "sequence_length": LENGTH,
        "data_parallel": 1,
        "ranks_per_node": 1,
        "on_cpu": True,
        "settings": default_settings(shape, on_cpu=True),
    }
    return Workload.model_validate(options | changes)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(("model_type", "options"), MODELS, ids=NAMES)
def test_a_layer_keeps_what_is_planned(model_type: str, options: dict[str, Any], precision: str) -> None:
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    two, four = (model_of(model_type, options, layers, dtype, "sdpa") for layers in (2, 4))
    measured = (saved_bytes(four) - saved_bytes(two)) / 2
    planned = layer_bytes(workload(read_shape(four.config.to_dict()), precision=precision))
    assert planned == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("model_type", ["llama", "gpt_neox"])
def test_eager_attention_keeps_its_scores(model_type: str, precision: str) -> None:
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    options = sizes(64, 8, 8, 128)
    two, four = (model_of(model_type, options, layers, dtype, "eager") for layers in (2, 4))
    measured = (saved_bytes(four) - saved_bytes(two)) / 2
    shape = read_shape(four.config.to_dict())
    planned = layer_bytes(workload(shape, precision=precision, attention="eager"))
    assert planned == pytest.approx(measured, rel=0.15)


def test_grouped_keys_are_copied_where_rows_are_padded() -> None:
    two, four = (model_of("llama", LLAMA_8B, layers, torch.bfloat16, "sdpa") for layers in (2, 4))
    mask = torch.ones(1, LENGTH, dtype=torch.long)
    mask[0, LENGTH // 2 :] = 0
    measured = (saved_bytes(four, attention_mask=mask) - saved_bytes(two, attention_mask=mask)) / 2
    planned = layer_bytes(workload(read_shape(four.config.to_dict()), masked=True))
    assert planned == pytest.approx(measured, rel=0.15)
