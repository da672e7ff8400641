"""The numbers of a `config.json`, under one name each and checked."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from zerotune_trainer.errors import ConfigurationError

_MOST_LAYERS, _MOST = 2_000, 2**31 - 1
"""More than any model has of layers, and of every other size: what a stranger's file says is bounded."""

_RENAMED = {
    "n_embd": "hidden_size",
    "n_embed": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "n_positions": "max_position_embeddings",
    "n_inner": "intermediate_size",
    "ffn_dim": "intermediate_size",
    "ffn_hidden_size": "intermediate_size",
    "num_experts": "num_local_experts",
}
"""Names of older architectures."""

_WITHOUT_ATTENTION = frozenset({"falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm"})
"""Architectures that have no attention heads: they are sized as one head would be, which is more than they have."""


@dataclass(frozen=True)
class Sizes:
    """The numbers of a config."""

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
    def read(cls, config: dict[str, Any], where: str) -> Sizes:
        """Read and check them.

        Raises:
            ConfigurationError: one is missing, not a positive whole number, or does not fit the others.
        """
        options = {name: value for name, value in config.items() if name not in _RENAMED}
        options |= {_RENAMED[name]: value for name, value in config.items() if name in _RENAMED and value is not None}
        hidden = read_size(options, "hidden_size", where)
        heads = read_size(options, "num_attention_heads", where, _heads_unless_given(options))
        kv_heads = _kv_heads(options, heads, where)
        if options.get("head_dim") is None and hidden % heads:
            raise wrong(where, f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
        if heads % kv_heads:
            raise wrong(where, f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
        return cls(
            options=options,
            where=where,
            hidden=hidden,
            layers=read_size(options, "num_hidden_layers", where),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=read_size(options, "head_dim", where, hidden // heads),
            intermediate=read_size(options, "intermediate_size", where, 4 * hidden),
            vocab=read_size(options, "vocab_size", where),
            context=read_size(options, "max_position_embeddings", where, 0) or None,
        )

    @property
    def queries(self) -> int:
        """Width of a token's queries."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of a token's keys, and of its values."""
        return self.kv_heads * self.head_dim

    def flag(self, name: str, default: bool) -> bool:
        """An optional switch of the config."""
        value = self.options.get(name)
        return default if value is None else bool(value)

    def number(self, name: str, default: int = 0) -> int:
        """An optional number of the config."""
        return read_size(self.options, name, self.where, default) if self.options.get(name) else default

    def is_sparse(self, layer: int) -> bool:
        """Whether a layer's MLP is made of experts."""
        if not self.number("num_local_experts"):
            return False
        dense = self.options.get("mlp_only_layers") or []
        if not isinstance(dense, list):
            raise wrong(self.where, f"mlp_only_layers is {dense!r:.80}, which is not a list of layers")
        return layer not in dense and (layer + 1) % self.number("decoder_sparse_step", 1) == 0


def _heads_unless_given(options: dict[str, Any]) -> int | None:
    return 1 if options.get("model_type") in _WITHOUT_ATTENTION else None


def _kv_heads(options: dict[str, Any], heads: int, where: str) -> int:
    """Falcon names them in its new architecture only, and shares one pair before that where it says `multi_query`."""
    one = options.get("multi_query") and not options.get("new_decoder_architecture")
    return 1 if one else read_size(options, "num_key_value_heads", where, heads)


def read_size(options: dict[str, Any], name: str, where: str, default: int | None = None) -> int:
    """A size of the config.

    Raises:
        ConfigurationError: it is missing and has no default, no positive whole number, or beyond any model.
    """
    value = options.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise wrong(where, f"there is no {name}")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise wrong(where, f"{name} is {value!r:.80}, which is not a positive whole number")
    most = _MOST_LAYERS if name == "num_hidden_layers" else _MOST
    if value > most:
        raise wrong(where, f"{name} is {Decimal(value):.3g}, and no model has more than {most:,}")
    return value


def wrong(where: str, what: str) -> ConfigurationError:
    """What is wrong with a config."""
    return ConfigurationError(f"{where}: {what}", "give the config.json of a decoder-only language model")
