"""The shape of a model, read from its `config.json`: sizes and an exact parameter count, by arithmetic. Torch-free.

The counts follow the modules of transformers 5; the tests compare them with real models and with published sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.quantization import quantization_of


class ModelShape(Settings):
    """What the memory a model takes depends on."""

    model_config = Settings.model_config | {"frozen": True}

    architecture: str
    """`model_type` of the config."""
    parameters: int
    """Parameters in all; tied embeddings count once."""
    largest_layer: int
    """Parameters of the largest unit that ZeRO-3 gathers at once: a decoder layer, or the embedding."""
    layers: int
    """Decoder layers."""
    hidden_size: int
    """Width of a token between layers."""
    kv_size: int
    """Width of a token's keys (and of its values) in one layer."""
    heads: int
    """Attention heads of a layer."""
    vocab_size: int
    """Tokens there are: rows of the embedding."""
    context: int | None = None
    """Longest sequence in tokens the model was made for."""
    learned_positions: bool = False
    """Whether positions are a table of `context` rows, so that a longer sequence cannot be computed at all."""
    exact: bool = True
    """False where the architecture is unknown and Llama's arithmetic was used."""
    quantization: str | None = None
    """How the stored weights are quantized: `quant_method` of the config. None: they are not."""


@dataclass(frozen=True)
class _Family:
    """How an architecture differs from Llama in its parameters."""

    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    gated_mlp: bool = True
    norms_per_layer: int = 2
    norm_bias: bool = False
    qk_norm: str = ""
    """`head`: a norm of one head's width for queries and for keys; `full`: of their whole width."""
    tied: bool = False
    head_bias: bool = False
    learned_positions: bool = False


_FAMILIES = {
    "llama": _Family(),
    "mistral": _Family(),
    "granite": _Family(),
    "qwen2": _Family(qkv_bias=True),
    "qwen3": _Family(qk_norm="head"),
    "gemma": _Family(tied=True),
    "gemma2": _Family(tied=True, norms_per_layer=4),
    "gemma3_text": _Family(tied=True, norms_per_layer=4, qk_norm="head"),
    "olmo2": _Family(qk_norm="full"),
    "phi3": _Family(),
    "mixtral": _Family(),
    "qwen2_moe": _Family(qkv_bias=True),
    "qwen3_moe": _Family(qk_norm="head"),
    "gpt2": _Family(
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        gated_mlp=False,
        norm_bias=True,
        tied=True,
        learned_positions=True,
    ),
    "gpt_neox": _Family(qkv_bias=True, output_bias=True, mlp_bias=True, gated_mlp=False, norm_bias=True),
    "phi": _Family(
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        gated_mlp=False,
        norms_per_layer=1,
        norm_bias=True,
        head_bias=True,
    ),
}
"""Architectures whose count is exact."""

_MOST_LAYERS, _MOST, _MOST_PARAMETERS = 2_000, 2**31 - 1, 10**15
"""More than any model has of layers, of every other size, and of parameters: what a stranger's file says is bounded."""

_RENAMED = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "n_inner": "intermediate_size",
    "num_experts": "num_local_experts",
}
"""Names of GPT-2 and of older mixtures of experts."""


def read_shape(config: dict[str, Any], where: str = "config.json") -> ModelShape:
    """The shape that a model's `config.json` describes.

    Args:
        config: Content of the file.
        where: The file's name, for errors.

    Raises:
        ConfigurationError: a size is missing, not a positive whole number, or does not fit the others.
    """
    nested = config.get("text_config")
    text = nested if "hidden_size" not in config and isinstance(nested, dict) else config
    model_type = str(text.get("model_type", "unknown"))
    sizes = _Sizes.read({_RENAMED.get(key, key): value for key, value in text.items()}, where)
    family = _FAMILIES.get(model_type)
    layers = [_layer_parameters(sizes, family or _FAMILIES["llama"], layer) for layer in range(sizes.layers)]
    outside = _parameters_outside_layers(sizes, family or _FAMILIES["llama"])
    if sum(layers) + outside > _MOST_PARAMETERS:
        raise _wrong(where, f"its sizes give {sum(layers) + outside:.3g} parameters, more than any model has")
    return ModelShape(
        architecture=model_type,
        parameters=sum(layers) + outside,
        largest_layer=max(*layers, sizes.vocab * sizes.hidden),
        layers=sizes.layers,
        hidden_size=sizes.hidden,
        kv_size=sizes.kv_heads * sizes.head_dim,
        heads=sizes.heads,
        vocab_size=sizes.vocab,
        context=sizes.context,
        learned_positions=family is not None and family.learned_positions,
        exact=family is not None and text is config,
        quantization=quantization_of(config),
    )


@dataclass(frozen=True)
class _Sizes:
    """The numbers of a config, checked."""

    options: dict[str, Any]
    where: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int | None

    @classmethod
    def read(cls, options: dict[str, Any], where: str) -> _Sizes:
        hidden = _size(options, "hidden_size", where)
        heads = _size(options, "num_attention_heads", where)
        kv_heads = _size(options, "num_key_value_heads", where, heads)
        if options.get("head_dim") is None and hidden % heads:
            raise _wrong(where, f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
        if heads % kv_heads:
            raise _wrong(where, f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
        return cls(
            options=options,
            where=where,
            hidden=hidden,
            layers=_size(options, "num_hidden_layers", where),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=_size(options, "head_dim", where, hidden // heads),
            intermediate=_size(options, "intermediate_size", where, 4 * hidden),
            vocab=_size(options, "vocab_size", where),
            context=_size(options, "max_position_embeddings", where, 0) or None,
        )

    def flag(self, name: str, default: bool) -> bool:
        """An optional switch of the config."""
        value = self.options.get(name)
        return default if value is None else bool(value)

    def number(self, name: str, default: int = 0) -> int:
        """An optional number of the config."""
        return _size(self.options, name, self.where, default) if self.options.get(name) else default


def _size(options: dict[str, Any], name: str, where: str, default: int | None = None) -> int:
    value = options.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise _wrong(where, f"there is no {name}")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(where, f"{name} is {value!r:.80}, which is not a positive whole number")
    most = _MOST_LAYERS if name == "num_hidden_layers" else _MOST
    if value > most:
        raise _wrong(where, f"{name} is {value:.3g}, and no model has more than {most:,}")
    return value


def _wrong(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: {what}", "give the config.json of a decoder-only language model")


def _layer_parameters(sizes: _Sizes, family: _Family, layer: int) -> int:
    norm = sizes.hidden * (2 if family.norm_bias else 1)
    return _attention_parameters(sizes, family) + _mlp_parameters(sizes, family, layer) + family.norms_per_layer * norm


def _attention_parameters(sizes: _Sizes, family: _Family) -> int:
    queries, keys = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    count = sizes.hidden * (2 * queries + 2 * keys)
    if sizes.flag("qkv_bias", sizes.flag("attention_bias", family.qkv_bias)):
        count += queries + 2 * keys
    if sizes.flag("attention_bias", family.output_bias):
        count += sizes.hidden
    if family.qk_norm:
        count += 2 * sizes.head_dim if family.qk_norm == "head" else queries + keys
    if sizes.flag("qk_layernorm", False):
        count += 4 * sizes.head_dim
    return count


def _mlp_parameters(sizes: _Sizes, family: _Family, layer: int) -> int:
    experts = sizes.number("num_local_experts")
    if not experts or not _is_sparse(sizes, layer):
        return _dense_mlp(sizes, family, sizes.intermediate)
    width = sizes.number("moe_intermediate_size", sizes.intermediate)
    router = sizes.hidden * experts
    shared = sizes.number("shared_expert_intermediate_size")
    # A shared expert comes with a gate of one output.
    beside = _dense_mlp(sizes, family, shared) + sizes.hidden if shared else 0
    return router + experts * _dense_mlp(sizes, family, width) + beside


def _is_sparse(sizes: _Sizes, layer: int) -> bool:
    dense = sizes.options.get("mlp_only_layers") or []
    return layer not in dense and (layer + 1) % sizes.number("decoder_sparse_step", 1) == 0


def _dense_mlp(sizes: _Sizes, family: _Family, width: int) -> int:
    matrices = 3 if family.gated_mlp else 2
    count = matrices * sizes.hidden * width
    if sizes.flag("mlp_bias", family.mlp_bias):
        count += (matrices - 1) * width + sizes.hidden
    return count


def _parameters_outside_layers(sizes: _Sizes, family: _Family) -> int:
    embedding = sizes.vocab * sizes.hidden
    final_norm = sizes.hidden * (2 if family.norm_bias else 1)
    positions = (sizes.context or 0) * sizes.hidden if family.learned_positions else 0
    if sizes.flag("tie_word_embeddings", family.tied):
        return embedding + final_norm + positions
    return 2 * embedding + final_norm + positions + (sizes.vocab if family.head_bias else 0)
