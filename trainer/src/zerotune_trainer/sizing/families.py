"""Architectures that are counted exactly: how each differs from Llama in its parameters, and what a layer keeps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


class Coefficients(NamedTuple):
    """Bytes a token and layer for each number of width: hidden size, MLP, queries, keys, and heads."""

    hidden: float
    mlp: float
    queries: float
    keys: float
    heads: float

    def of(self, hidden: int, mlp: int, queries: int, keys: int, heads: int) -> float:
        """Bytes that a layer of this size keeps of a token."""
        return self.hidden * hidden + self.mlp * mlp + self.queries * queries + self.keys * keys + self.heads * heads


@dataclass(frozen=True)
class Family:
    """How an architecture differs from Llama."""

    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    gated_mlp: bool = True
    norms_per_layer: int = 2
    norm_parameters: int = 1
    """Numbers of a norm for one of its input: 1 weight; 2 with a bias; 0 without either."""
    qk_norm: str = ""
    """`head`: a norm of one head's width for queries and for keys; `full`: of their whole width."""
    tied: bool = False
    head_bias: bool = False
    learned_positions: bool = False
    spare_positions: int = 0
    """Rows of the table of positions beyond the longest sequence."""
    embedding_norm: bool = False
    defaults: dict[str, Any] = field(default_factory=dict)
    """What a nested config leaves out: transformers writes only what differs from the class."""


_GPT = Family(qkv_bias=True, output_bias=True, mlp_bias=True, gated_mlp=False, norm_parameters=2)
_GEMMA_3 = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262_208,
}

FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(),
    "granite": Family(),
    "smollm3": Family(tied=True),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qk_norm="head"),
    "gemma": Family(tied=True),
    "gemma2": Family(tied=True, norms_per_layer=4),
    "gemma3_text": Family(tied=True, norms_per_layer=4, qk_norm="head", defaults=_GEMMA_3),
    "olmo": Family(norm_parameters=0),
    "olmo2": Family(qk_norm="full"),
    "phi3": Family(),
    "mixtral": Family(),
    "qwen2_moe": Family(qkv_bias=True),
    "qwen3_moe": Family(qk_norm="head"),
    "stablelm": Family(norm_parameters=2),
    "starcoder2": replace(_GPT, tied=True),
    "gpt2": replace(_GPT, tied=True, learned_positions=True),
    "gpt_bigcode": replace(_GPT, tied=True, learned_positions=True),
    "gpt_neox": _GPT,
    "gptj": Family(mlp_bias=True, gated_mlp=False, norms_per_layer=1, norm_parameters=2, head_bias=True),
    "phi": replace(_GPT, norms_per_layer=1, head_bias=True),
    "opt": replace(_GPT, tied=True, learned_positions=True, spare_positions=2),
    "bloom": replace(_GPT, tied=True, embedding_norm=True),
    "falcon": Family(gated_mlp=False, norms_per_layer=1, norm_parameters=2, tied=True),
}
"""By `model_type`."""

_LLAMA = (Coefficients(16, 8, 4, 4, 4), Coefficients(24, 16, 8, 8, 4))
_NORMED_HEADS = (Coefficients(16, 8, 10, 10, 8), Coefficients(24, 16, 16, 16, 8))
_NORMED_WIDTH = (Coefficients(20, 8, 12, 12, 4), Coefficients(24, 16, 16, 16, 4))

_COEFFICIENTS: dict[str, tuple[Coefficients, Coefficients]] = {
    "arcee": (Coefficients(16, 4, 4, 4, 4), Coefficients(24, 8, 8, 8, 4)),
    "bloom": (Coefficients(8, 4, 4, 4, 0), Coefficients(16, 8, 8, 8, 0)),
    "cohere": (Coefficients(14, 8, 4, 4, 4), Coefficients(16, 16, 8, 8, 4)),
    "cohere2": (Coefficients(14, 8, 4, 4, 4), Coefficients(16, 16, 8, 8, 4)),
    "exaone4": _NORMED_HEADS,
    "falcon": (Coefficients(6, 4, 4, 4, 4), Coefficients(12, 8, 8, 8, 4)),
    "gemma": (Coefficients(20, 8, 4, 4, 4), Coefficients(24, 16, 8, 8, 4)),
    "gemma2": (Coefficients(36, 8, 8, 0, 8), Coefficients(40, 16, 16, 0, 8)),
    "gemma3_text": (Coefficients(36, 8, 12, 12, 8), Coefficients(40, 16, 16, 16, 8)),
    "glm": (Coefficients(16, 8, 7, 4, 4), Coefficients(24, 16, 14, 8, 4)),
    "glm4": (Coefficients(28, 8, 7, 4, 4), Coefficients(40, 16, 14, 8, 4)),
    "gpt2": (Coefficients(12, 10, 4, 4, 4), Coefficients(24, 20, 8, 8, 4)),
    "gpt_bigcode": (Coefficients(12, 4, 4, 4, 4), Coefficients(24, 8, 8, 8, 4)),
    "gpt_neox": (Coefficients(12, 4, 4, 4, 4), Coefficients(24, 8, 8, 8, 4)),
    "gptj": (Coefficients(9, 10, 4, 4, 0), Coefficients(10, 20, 8, 8, 0)),
    "hunyuan_v1_dense": _NORMED_HEADS,
    "nemotron": (Coefficients(8, 4, 6, 4, 4), Coefficients(16, 8, 12, 8, 4)),
    "olmo": (Coefficients(12, 8, 4, 4, 4), Coefficients(16, 16, 8, 8, 4)),
    "olmo2": _NORMED_WIDTH,
    "olmo3": _NORMED_WIDTH,
    "opt": (Coefficients(12, 2, 4, 4, 4), Coefficients(24, 4, 8, 8, 4)),
    "phi": (Coefficients(6, 10, 4, 4, 4), Coefficients(12, 20, 8, 8, 4)),
    "phi3": (Coefficients(18, 8, 6, 6, 4), Coefficients(28, 16, 12, 12, 4)),
    "qwen3": _NORMED_HEADS,
    "qwen3_moe": _NORMED_HEADS,
    "seed_oss": (Coefficients(20, 8, 4, 4, 4), Coefficients(32, 16, 8, 8, 4)),
    "stablelm": (Coefficients(10, 8, 4, 4, 4), Coefficients(20, 16, 8, 8, 4)),
    "starcoder2": (Coefficients(8, 4, 4, 4, 4), Coefficients(16, 8, 8, 8, 4)),
}
"""Bytes that a layer keeps in bf16 or fp16, and in fp32. Measured with transformers 5.23 as the tensors that autograd
saves; residual dropout, where the published configs have it (gpt2, opt, gpt_bigcode, seed_oss), is part of it."""

EAGER_ONLY = frozenset({"bloom", "gemma2", "gpt_oss", "gptj"})
"""Architectures without attention by sdpa: transformers computes their scores one by one, or by flash attention."""


def layer_coefficients(architecture: str, *, fp32: bool) -> Coefficients:
    """What a layer of this `model_type` keeps; an unknown one is taken for a Llama."""
    return _COEFFICIENTS.get(architecture, _LLAMA)[fp32]
