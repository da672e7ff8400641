"""Architectures that keep no documents apart in a packed block, as of transformers 5.23. Torch-free.

For plans alone: before the first step every model is tried, see `training.packing_check`.
"""

from __future__ import annotations

_ALWAYS = frozenset(
    {
        # ALiBi counts the distance from the beginning of the block.
        "bloom",
        "mpt",
        # A recurrent state, or a convolution, goes on from one document to the next.
        "bailing_hybrid",
        "bamba",
        "falcon_h1",
        "falcon_mamba",
        "jamba",
        "kimi_linear",
        "lfm2",
        "lfm3",
        "mamba",
        "mamba2",
        "minimax",
        "nemotron_h",
        "olmo_hybrid",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
        "recurrent_gemma",
        "rwkv",
        "xlstm",
        # Positions are counted from the beginning of the block, or the mask is made without them.
        "cpmant",
        "openai-gpt",
        "xglm",
    }
)
_WITHOUT_FLASH_ATTENTION = frozenset({"afmoe", "biogpt", "falcon", "gpt_oss", "opt"})
"""Their attention mask is made without the positions; flash attention takes none."""


def mixes_documents(architecture: str, *, flash_attention: bool) -> bool:
    """Whether models of this `model_type` let a packed document see the one before it.

    Args:
        architecture: `model_type` of the model's config.
        flash_attention: Whether a flash attention kernel may compute the attention.
    """
    return architecture in _ALWAYS or (architecture in _WITHOUT_FLASH_ATTENTION and not flash_attention)
