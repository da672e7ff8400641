"""The shape of a model, read from its `config.json`: sizes and an exact parameter count, by arithmetic. Torch-free.

The counts follow the modules of transformers 5; the tests compare them with real models and with published sizes.
"""

from __future__ import annotations

from typing import Any

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.families import FAMILIES, Family
from zerotune_trainer.sizing.parameters import layer_parameters, parameters_outside_layers
from zerotune_trainer.sizing.quantization import quantization_of
from zerotune_trainer.sizing.rope import check_rope
from zerotune_trainer.sizing.sizes import Sizes, wrong

_MOST_PARAMETERS = 10**15
"""More than any model has: what a stranger's file says is bounded."""

_ENCODERS = frozenset(
    {"albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta"}
    | {"bert-generation", "big_bird", "data2vec-text", "ernie", "megatron-bert", "rembert", "roberta-prelayernorm"}
    | {"roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)
_EXPERT_KEYS = frozenset(
    {"ffn_config", "moe_intermediate_size", "moe_num_experts", "n_routed_experts", "num_experts", "num_local_experts"}
)


def read_shape(config: dict[str, Any], where: str = "config.json") -> ModelShape:
    """The shape that a model's `config.json` describes.

    Args:
        config: Content of the file.
        where: The file's name, for errors.

    Raises:
        ConfigurationError: a size is missing, not a positive whole number, or does not fit the others; or the model
            has no decoder alone.
    """
    text = _text_part(config)
    model_type = str(text.get("model_type", "unknown"))
    _require_decoder(text, model_type, where)
    check_rope(text, where)
    known = FAMILIES.get(model_type)
    family = known or Family()
    sizes = Sizes.read(family.defaults | text if text is not config else text, where)
    layers = [layer_parameters(sizes, family, layer) for layer in range(sizes.layers)]
    parameters = sum(layers) + parameters_outside_layers(sizes, family)
    if parameters > _MOST_PARAMETERS:
        raise wrong(where, f"its sizes give {parameters:.3g} parameters, more than any model has")
    experts = sizes.number("num_experts_per_tok", 2) if sizes.number("num_local_experts") else 0
    return ModelShape(
        architecture=model_type,
        parameters=parameters,
        largest_layer=max(*layers, sizes.vocab * sizes.hidden),
        layers=sizes.layers,
        hidden_size=sizes.hidden,
        query_size=sizes.queries,
        kv_size=sizes.keys,
        heads=sizes.heads,
        mlp_size=_mlp_size(sizes, experts),
        experts_per_token=experts,
        vocab_size=sizes.vocab,
        context=sizes.context,
        tied=sizes.flag("tie_word_embeddings", family.tied),
        learned_positions=family.learned_positions,
        stored_dtype=_stored_dtype(config, text),
        exact=known is not None and text is config,
        quantization=quantization_of(config),
    )


def has_unknown_experts(config: dict[str, Any]) -> bool:
    """Whether a config that is not counted exactly describes a mixture of experts: Llama's arithmetic misses most of
    its parameters then.
    """
    return any(part.get(key) for part in (config, _text_part(config)) for key in _EXPERT_KEYS)


def _text_part(config: dict[str, Any]) -> dict[str, Any]:
    nested = config.get("text_config")
    return nested if "hidden_size" not in config and isinstance(nested, dict) else config


def _require_decoder(text: dict[str, Any], model_type: str, where: str) -> None:
    if text.get("is_encoder_decoder") is True:
        raise wrong(where, f"a {model_type} model has an encoder and a decoder")
    if model_type in _ENCODERS and text.get("is_decoder") is not True:
        raise wrong(where, f"a {model_type} model sees the tokens that it is to predict: it has no causal mask")


def _mlp_size(sizes: Sizes, experts: int) -> int:
    if not experts:
        return sizes.intermediate
    width = sizes.number("moe_intermediate_size", sizes.intermediate)
    return experts * width + sizes.number("shared_expert_intermediate_size")


def _stored_dtype(config: dict[str, Any], text: dict[str, Any]) -> str | None:
    names = (part.get(key) for part in (config, text) for key in ("dtype", "torch_dtype"))
    return next((name for name in names if isinstance(name, str)), None)
