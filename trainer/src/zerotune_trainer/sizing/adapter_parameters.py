"""Parameters of a low-rank adapter, by arithmetic, as peft makes them. Torch-free and pure.

A layer of n inputs and m outputs gets r (n + m) parameters, with DoRA m more; a module that is trained whole has all of
its own. In a mixture of experts peft adapts the router and every expert, gate and up projection together at 2 r; how
many experts there are is taken from the parameters of a layer. Where `all-linear` finds queries, keys and values in one
layer, as in GPT-2 and GPT-NeoX, there are fewer parameters than counted here.
"""

from __future__ import annotations

from zerotune_trainer.config.adapter import ALL_LINEAR, Adapter
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.families import FAMILIES, Family

_QUERIES = ("q_proj",)
_KEYS = ("k_proj", "v_proj")
_OUTPUT = ("o_proj", "out_proj")
_FUSED = ("qkv_proj", "query_key_value", "c_attn")
_UP = ("gate_proj", "up_proj", "fc1", "c_fc", "dense_h_to_4h", "fc_in")
_FUSED_UP = ("gate_up_proj",)
_DOWN = ("down_proj", "fc2", "dense_4h_to_h", "fc_out")
_VOCABULARY = ("embed_tokens", "wte", "lm_head", "embed_out", "embed_in")


def adapter_parameters(shape: ModelShape, adapter: Adapter) -> int:
    """Parameters that are trained. Of a module that is not known by its name, the largest count that it may have.

    Args:
        shape: The base.
        adapter: The adapter.
    """
    sizes = _adapted(shape, adapter)
    of_a_layer = sum(adapter.r * (inputs + outputs) + adapter.use_dora * outputs for inputs, outputs in sizes)
    return shape.layers * of_a_layer + sum(_whole(shape, name) for name in adapter.modules_to_save)


def highest_rank(shape: ModelShape, adapter: Adapter) -> int:
    """The highest rank that a change to one of the adapted layers can have: its inputs or outputs, whichever are fewer.

    Args:
        shape: The base.
        adapter: The adapter.
    """
    return max(min(size) for size in _adapted(shape, adapter))


def dense_layers(shape: ModelShape) -> list[tuple[int, int]]:
    """Inputs and outputs of the linear layers of a decoder layer; experts, all of which are one tensor, are none."""
    family = FAMILIES.get(shape.architecture, Family())
    mlp = ["gate_proj", "up_proj", "down_proj"] if family.gated_mlp else ["fc1", "fc2"]
    names = ["q_proj", "k_proj", "v_proj", "o_proj", *([] if shape.experts_per_token else mlp)]
    return [_sizes(shape, name) for name in names]


def _adapted(shape: ModelShape, adapter: Adapter) -> list[tuple[int, int]]:
    names = adapter.target_modules
    return _all_linear(shape) if names == [ALL_LINEAR] else [_sizes(shape, name) for name in names]


def _all_linear(shape: ModelShape) -> list[tuple[int, int]]:
    return [*dense_layers(shape), *(_experts(shape) if shape.experts_per_token else [])]


def _experts(shape: ModelShape) -> list[tuple[int, int]]:
    hidden, width = shape.hidden_size, (shape.mlp_size or 0) // shape.experts_per_token
    attention = 2 * hidden * ((shape.query_size or hidden) + shape.kv_size)
    of_a_layer = (shape.parameters - 2 * shape.vocab_size * hidden) // shape.layers - attention
    experts = max(1, of_a_layer // (3 * hidden * width))
    gate_and_up, down = (hidden, 2 * width), (width, hidden)
    return [(hidden, experts), *[gate_and_up, gate_and_up, down] * experts]


def _sizes(shape: ModelShape, name: str) -> tuple[int, int]:
    """Inputs and outputs of a linear layer."""
    hidden, queries = shape.hidden_size, shape.query_size or shape.hidden_size
    mlp, fused = shape.mlp_size or 4 * hidden, queries + 2 * shape.kv_size
    known = {
        **dict.fromkeys(_QUERIES, (hidden, queries)),
        **dict.fromkeys(_KEYS, (hidden, shape.kv_size)),
        **dict.fromkeys(_OUTPUT, (queries, hidden)),
        **dict.fromkeys(_FUSED, (hidden, fused)),
        **dict.fromkeys(_UP, (hidden, mlp)),
        **dict.fromkeys(_FUSED_UP, (hidden, 2 * mlp)),
        **dict.fromkeys(_DOWN, (mlp, hidden)),
    }
    return known.get(name.rpartition(".")[2], (max(hidden, mlp), max(hidden, 2 * mlp, fused)))


def _whole(shape: ModelShape, name: str) -> int:
    """Parameters of a module that is trained whole: an embedding or a head, else at most a decoder layer."""
    of_vocabulary = shape.vocab_size * shape.hidden_size
    return of_vocabulary if name.rpartition(".")[2] in _VOCABULARY else shape.largest_layer
