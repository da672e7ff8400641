"""Parameter counts, against transformers' own models and against published sizes; configs that are wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.shape import read_shape

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 128,
    "pad_token_id": 0,
}
GROUPED = {"num_key_value_heads": 2}
EXPERTS = {**GROUPED, "num_experts": 4, "moe_intermediate_size": 48}
OPT = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "ffn_dim": 96,
    "vocab_size": 128,
    "max_position_embeddings": 50,
}
FALCON = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 128}
GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 128, "n_positions": 50}

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", GROUPED),
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("mistral", GROUPED),
    ("granite", GROUPED),
    ("qwen2", GROUPED),
    ("qwen3", {**GROUPED, "head_dim": 32}),
    ("gemma", {"num_key_value_heads": 1, "head_dim": 32}),
    ("gemma2", {**GROUPED, "head_dim": 32}),
    ("gemma3_text", {**GROUPED, "head_dim": 32}),
    ("olmo2", GROUPED),
    ("gpt2", GPT2),
    ("gpt2", {**GPT2, "n_inner": 100}),
    ("gpt_neox", {}),
    ("gpt_neox", {"attention_bias": False}),
    ("phi", {}),
    ("phi", {"qk_layernorm": True}),
    ("phi3", GROUPED),
    ("mixtral", {**GROUPED, "num_local_experts": 4}),
    ("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 80}),
    ("qwen3_moe", {**EXPERTS, "mlp_only_layers": [0]}),
    ("qwen3_moe", {**EXPERTS, "decoder_sparse_step": 2}),
    ("smollm3", GROUPED),
    ("olmo", GROUPED),
    ("stablelm", GROUPED),
    ("stablelm", {**GROUPED, "use_qkv_bias": True}),
    ("starcoder2", GROUPED),
    ("starcoder2", {"use_bias": False}),
    ("gpt_bigcode", GPT2),
    ("gpt_bigcode", {**GPT2, "multi_query": False}),
    ("gptj", {**GPT2, "rotary_dim": 8}),
    ("bloom", {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 128}),
    ("opt", {**OPT, "word_embed_proj_dim": 64}),
    ("opt", {**OPT, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    ("falcon", FALCON),
    ("falcon", {**FALCON, "multi_query": False, "bias": True, "parallel_attn": False}),
    ("falcon", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
]
OF_ITS_OWN_SIZES = {"gpt2", "gpt_bigcode", "gptj", "bloom", "opt", "falcon"}


@pytest.mark.parametrize(("model_type", "options"), MODELS)
def test_count_is_that_of_the_model_in_transformers(model_type: str, options: dict[str, Any]) -> None:
    config = CONFIG_MAPPING[model_type](**(options if model_type in OF_ITS_OWN_SIZES else SMALL | options))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = read_shape(config.to_diff_dict())
    assert (shape.parameters, shape.exact) == (sum(weight.numel() for weight in model.parameters()), True)
    largest = max(sum(weight.numel() for weight in layer.parameters()) for layer in _units(model))
    assert shape.largest_layer == largest


def _units(model: torch.nn.Module) -> list[torch.nn.Module]:
    layers = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return [*layers, *(module for module in model.modules() if isinstance(module, torch.nn.Embedding))]


def sizes(hidden: int, layers: int, heads: int, kv: int, width: int, vocab: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": width,
        "vocab_size": vocab,
    }


PUBLISHED: list[tuple[str, dict[str, Any], int]] = [
    ("Llama-3.1-8B", {"model_type": "llama"} | sizes(4096, 32, 32, 8, 14336, 128256), 8_030_261_248),
    ("Llama-3.1-70B", {"model_type": "llama"} | sizes(8192, 80, 64, 8, 28672, 128256), 70_553_706_496),
    (
        "Llama-3.2-1B",
        {"model_type": "llama", "tie_word_embeddings": True} | sizes(2048, 16, 32, 8, 8192, 128256),
        1_235_814_400,
    ),
    ("Mistral-7B-v0.1", {"model_type": "mistral"} | sizes(4096, 32, 32, 8, 14336, 32000), 7_241_732_096),
    (
        "Mixtral-8x7B",
        {"model_type": "mixtral", "num_local_experts": 8} | sizes(4096, 32, 32, 8, 14336, 32000),
        46_702_792_704,
    ),
    ("Qwen2.5-7B", {"model_type": "qwen2"} | sizes(3584, 28, 28, 4, 18944, 152064), 7_615_616_512),
    (
        "Qwen2.5-0.5B",
        {"model_type": "qwen2", "tie_word_embeddings": True} | sizes(896, 24, 14, 2, 4864, 151936),
        494_032_768,
    ),
    ("Qwen3-8B", {"model_type": "qwen3", "head_dim": 128} | sizes(4096, 36, 32, 8, 12288, 151936), 8_190_735_360),
    (
        "Qwen3-30B-A3B",
        {"model_type": "qwen3_moe", "head_dim": 128, "num_experts": 128, "moe_intermediate_size": 768}
        | sizes(2048, 48, 32, 4, 6144, 151936),
        30_532_122_624,
    ),
    ("Gemma-7B", {"model_type": "gemma", "head_dim": 256} | sizes(3072, 28, 16, 16, 24576, 256000), 8_537_680_896),
    ("Gemma-2-9B", {"model_type": "gemma2", "head_dim": 256} | sizes(3584, 42, 16, 8, 14336, 256000), 9_241_705_984),
    ("Phi-2", {"model_type": "phi"} | sizes(2560, 32, 32, 32, 10240, 51200), 2_779_683_840),
    ("Pythia-6.9B", {"model_type": "gpt_neox"} | sizes(4096, 32, 32, 32, 16384, 50432), 6_857_302_016),
    (
        "Falcon-7B",
        {
            "model_type": "falcon",
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "vocab_size": 65024,
            "multi_query": True,
            "parallel_attn": True,
        },
        6_921_720_704,
    ),
    (
        "OPT-6.7B",
        {
            "model_type": "opt",
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "ffn_dim": 16384,
            "vocab_size": 50272,
            "max_position_embeddings": 2048,
        },
        6_658_473_984,
    ),
    (
        "BLOOM-7B1",
        {"model_type": "bloom", "n_embed": 4096, "n_layer": 30, "n_head": 32, "vocab_size": 250880},
        7_069_016_064,
    ),
    (
        "GPT-J-6B",
        {"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "vocab_size": 50400, "n_positions": 2048},
        6_050_882_784,
    ),
    ("StarCoder2-7B", {"model_type": "starcoder2"} | sizes(4608, 32, 36, 4, 18432, 49152), 7_173_923_840),
    (
        "GPT-2",
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
        124_439_808,
    ),
]


@pytest.mark.parametrize(("config", "published"), [case[1:] for case in PUBLISHED], ids=[case[0] for case in PUBLISHED])
def test_count_is_the_published_one(config: dict[str, Any], published: int) -> None:
    assert read_shape(config).parameters == published


def test_unknown_architecture_is_counted_like_llama_and_says_so() -> None:
    llama = read_shape({"model_type": "llama", **SMALL})
    unknown = read_shape({"model_type": "brand-new", **SMALL})
    assert unknown == llama.model_copy(update={"architecture": "brand-new", "exact": False})


def test_sizes_of_a_multimodal_model_are_those_of_its_text_part() -> None:
    nested = read_shape({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "head_dim": 32, **SMALL}})
    assert nested.exact is False
    assert nested.parameters == read_shape({"model_type": "gemma3_text", "head_dim": 32, **SMALL}).parameters


def test_a_nested_config_is_completed_by_the_defaults_of_its_class() -> None:
    """As gemma-3-4b was published: what equals the defaults of transformers is not there."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    shape = read_shape({"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 1152}})
    assert (shape.parameters, shape.vocab_size, shape.kv_size) == (3_880_263_168, 262_208, 1024)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "a bert model sees the tokens that it is to predict: it has no causal mask"),
        ({"is_encoder_decoder": True}, "a llama model has an encoder and a decoder"),
    ],
)
def test_a_model_that_is_no_decoder_is_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_shape({"model_type": "llama", **SMALL, **change})
    assert read_shape({"model_type": "bert", "is_decoder": True, **SMALL})


WRONG = [
    ({"hidden_size": None}, "config.json: there is no hidden_size"),
    ({"hidden_size": "64"}, "config.json: hidden_size is '64', which is not a positive whole number"),
    ({"num_hidden_layers": 0}, "config.json: num_hidden_layers is 0, which is not a positive whole number"),
    ({"vocab_size": True}, "config.json: vocab_size is True, which is not a positive whole number"),
    ({"num_attention_heads": 3}, "config.json: hidden_size 64 is not a multiple of num_attention_heads 3"),
    ({"num_key_value_heads": 3}, "config.json: num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
    (
        {"mlp_only_layers": 3, "num_local_experts": 8},
        "config.json: mlp_only_layers is 3, which is not a list of layers",
    ),
    ({"num_local_experts": "8"}, "config.json: num_local_experts is '8', which is not a positive whole number"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_shape_is_rejected_with_the_value_and_the_rule(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_shape({"model_type": "llama", **SMALL, **change})
    assert (caught.value.message, caught.value.hint) == (
        message,
        "give the config.json of a decoder-only language model",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 10_000_000_000}, "num_hidden_layers is 1.00e+10, and no model has more than 2,000"),
        ({"num_hidden_layers": 10**400}, "num_hidden_layers is 1.00e+400, and no model has more than 2,000"),
        ({"rope_scaling": {"factor": 2.0}}, "rope_scaling has the factor 2.0 and no rope_type"),
        ({"rope_parameters": {"full_attention": {"factor": 8}}}, "rope_parameters has the factor 8 and no rope_type"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear', which is not an object"),
        ({"vocab_size": 2**31}, "vocab_size is 2.15e+9, and no model has more than 2,147,483,647"),
        ({"hidden_size": 2**30, "intermediate_size": 2**30}, "parameters, more than any model has"),
    ],
)
def test_what_no_model_has_is_an_error_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read_shape({"model_type": "llama", **SMALL, **change})


def test_a_model_without_attention_is_sized_generously_and_not_as_exact() -> None:
    """state-spaces/mamba-130m-hf has 129,135,360 parameters."""
    published = {"hidden_size": 768, "intermediate_size": 1536, "num_hidden_layers": 24, "vocab_size": 50280}
    shape = read_shape({"model_type": "mamba", **published})
    assert not shape.exact
    assert 129_135_360 < shape.parameters < 2 * 129_135_360
