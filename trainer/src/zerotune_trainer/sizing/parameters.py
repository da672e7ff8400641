"""Parameters by arithmetic, module by module as in transformers 5. The tests compare with real models."""

from __future__ import annotations

from zerotune_trainer.sizing.families import Family
from zerotune_trainer.sizing.sizes import Sizes


def layer_parameters(sizes: Sizes, family: Family, layer: int) -> int:
    """Parameters of one decoder layer."""
    norms = _norms_per_layer(sizes, family) * family.norm_parameters * sizes.hidden
    return _attention(sizes, family) + _mlp(sizes, family, layer) + norms


def parameters_outside_layers(sizes: Sizes, family: Family) -> int:
    """Embeddings, head, and the norms around the layers."""
    count = sizes.vocab * sizes.hidden + (2 if family.embedding_norm else 1) * family.norm_parameters * sizes.hidden
    if family.learned_positions:
        count += ((sizes.context or 0) + family.spare_positions) * sizes.hidden
    if not sizes.flag("tie_word_embeddings", family.tied):
        count += sizes.vocab * sizes.hidden + (sizes.vocab if family.head_bias else 0)
    return count + _projections(sizes)


def _projections(sizes: Sizes) -> int:
    """OPT's smallest model has embeddings narrower than its layers, with a projection on either side."""
    width = sizes.number("word_embed_proj_dim", sizes.hidden)
    if width == sizes.hidden:
        return 0
    return sizes.vocab * (width - sizes.hidden) + 2 * width * sizes.hidden - 2 * sizes.hidden


def _norms_per_layer(sizes: Sizes, family: Family) -> int:
    """Falcon has a second norm in its new architecture, and where MLP and attention follow each other."""
    falcon = "new_decoder_architecture" in sizes.options or "parallel_attn" in sizes.options
    if not falcon:
        return family.norms_per_layer
    if sizes.flag("new_decoder_architecture", False):
        return sizes.number("num_ln_in_parallel_attn", 2)
    return 1 if sizes.flag("parallel_attn", True) else 2


def _attention(sizes: Sizes, family: Family) -> int:
    queries, keys = sizes.queries, sizes.keys
    count = sizes.hidden * (2 * queries + 2 * keys)
    if sizes.flag("qkv_bias", sizes.flag("use_qkv_bias", _has_bias(sizes, family.qkv_bias))):
        count += queries + 2 * keys
    if _has_bias(sizes, family.output_bias):
        count += sizes.hidden
    if family.qk_norm:
        count += 2 * sizes.head_dim if family.qk_norm == "head" else queries + keys
    if sizes.flag("qk_layernorm", False):
        count += 4 * sizes.head_dim
    return count


def _has_bias(sizes: Sizes, default: bool) -> bool:
    """Whether attention has biases, by the three names that there are for it."""
    return sizes.flag("attention_bias", sizes.flag("use_bias", sizes.flag("bias", default)))


def _mlp(sizes: Sizes, family: Family, layer: int) -> int:
    if not sizes.is_sparse(layer):
        return _dense_mlp(sizes, family, sizes.intermediate)
    experts = sizes.number("num_local_experts")
    width = sizes.number("moe_intermediate_size", sizes.intermediate)
    router = sizes.hidden * experts
    shared = sizes.number("shared_expert_intermediate_size")
    # A shared expert comes with a gate of one output.
    beside = _dense_mlp(sizes, family, shared) + sizes.hidden if shared else 0
    return router + experts * _dense_mlp(sizes, family, width) + beside


def _dense_mlp(sizes: Sizes, family: Family, width: int) -> int:
    matrices = 3 if family.gated_mlp else 2
    count = matrices * sizes.hidden * width
    if sizes.flag("mlp_bias", sizes.flag("use_bias", sizes.flag("bias", family.mlp_bias))):
        count += (matrices - 1) * width + sizes.hidden
    return count
