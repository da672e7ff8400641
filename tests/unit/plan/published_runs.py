"""Fine-tuning, of all parameters or of an adapter, that people reported: it ran or ran out of memory, and where.

Nothing here was measured by us: model, batch and settings are the report's. FSDP `full_shard` stands for ZeRO-3.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple


class Run(NamedTuple):
    """A report."""

    source: str
    model: str
    gpus: int
    gpu_gib: float
    stage: int
    tokens: int
    """Of a row."""
    rows: int
    outcome: Literal["ran", "out of memory"]
    used_gib: float | None = None
    """What a GPU held, where the report says it."""
    offload: Literal["none", "optimizer", "all"] = "none"
    host_gib: int = 2000
    options: dict[str, Any] = {}  # noqa: RUF012 (a default that nothing changes)


def _llama(hidden: int, layers: int, heads: int, mlp: int, vocab: int, kv: int | None = None, **more: Any) -> Any:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocab}
    return {"model_type": "llama", "intermediate_size": mlp, "num_key_value_heads": kv or heads, **sizes, **more}


def _gpt(hidden: int, layers: int) -> Any:
    sizes = {"n_embd": hidden, "n_layer": layers, "n_head": hidden // 64, "n_positions": 1024, "vocab_size": 50257}
    return {"model_type": "gpt2", **sizes}


_OPT = {
    "model_type": "opt",
    "hidden_size": 4096,
    "ffn_dim": 16384,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 50272,
    "max_position_embeddings": 2048,
}

MODELS: dict[str, dict[str, Any]] = {
    "baichuan-7b": _llama(4096, 32, 32, 11008, 64000),
    "baichuan2-13b": _llama(5120, 40, 40, 13696, 125696),
    "glm4-9b": _llama(4096, 40, 32, 13696, 151552, 2, model_type="glm4", head_dim=128),
    "gpt-1.4b": _gpt(2048, 28),
    "gpt-10b": _gpt(4096, 50),
    "gpt-13b": _gpt(4096, 65),
    "llama-7b": _llama(4096, 32, 32, 11008, 32000),
    "llama-33b": _llama(6656, 60, 52, 17920, 32000),
    "llama-70b": _llama(8192, 80, 64, 28672, 32000, 8),
    "mistral-7b": _llama(4096, 32, 32, 14336, 32000, 8, model_type="mistral"),
    "opt-6.7b": _OPT,
    "qwen-1.8b": _llama(2048, 24, 16, 5504, 151936, model_type="qwen2"),
    "qwen-7b": _llama(4096, 32, 32, 11008, 151936, model_type="qwen2"),
    "qwen2.5-1.5b": _llama(1536, 28, 12, 8960, 151936, 2, model_type="qwen2", tie_word_embeddings=True),
    "qwen2.5-7b": _llama(3584, 28, 28, 18944, 152064, 4, model_type="qwen2"),
    "qwen2.5-32b": _llama(5120, 64, 40, 27648, 152064, 8, model_type="qwen2"),
}

_SWIFT = "github.com/modelscope/ms-swift/blob/3602360/examples/train/"
_QWEN = "github.com/QwenLM/Qwen/blob/main/README.md: profiling of memory and speed"
_LIGER = {
    "liger_kernel": True,
    "tiled_logits": True,
    "attention": "flash_attention_2",
    "gradient_checkpointing": True,
}
_FLASH = {"attention": "flash_attention_2", "gradient_checkpointing": True}
_PADDED = {"masked": True, "gradient_checkpointing": True}


def _adapter(parameters: int) -> dict[str, Any]:
    return _FLASH | {"adapter_parameters": parameters}


_FOREACH = {"fused_optimizer": False}

RUNS = [
    Run(_SWIFT + "agent/glm4.sh", "glm4-9b", 4, 80, 3, 8192, 1, "ran", options=_LIGER),
    Run(_SWIFT + "cached_dataset/sft.sh", "qwen2.5-7b", 4, 80, 3, 8192, 1, "ran", 44, options=_LIGER),
    Run(_SWIFT + "flash_attention_3/transformers.sh", "qwen2.5-7b", 4, 95.6, 3, 16384, 1, "ran", 43, options=_LIGER),
    Run(_SWIFT + "liger/sft.sh", "qwen2.5-7b", 4, 80, 3, 8192, 1, "ran", 42, options=_LIGER),
    Run(_SWIFT + "liger/sft.sh without liger", "qwen2.5-7b", 4, 80, 3, 8192, 1, "ran", 54, options=_FLASH),
    Run(_SWIFT + "packing/liger_kernel.sh", "qwen2.5-7b", 4, 80, 3, 16384, 1, "ran", 42, options=_LIGER),
    Run(_SWIFT + "full/qwen2_5_32b.sh", "qwen2.5-32b", 8, 80, 3, 8192, 1, "ran", options=_LIGER),
    Run(_SWIFT + "full/dft.sh", "qwen2.5-1.5b", 4, 80, 2, 2048, 8, "ran", options=_PADDED),
    *(
        Run(_QWEN, "qwen-1.8b", 1, 80, 3, tokens, 1, "ran", used, options=_FLASH)
        for tokens, used in ((256, 43.5), (512, 43.5), (1024, 43.5), (2048, 43.5), (4096, 47.1), (8192, 48.3))
    ),
    *(
        Run(_QWEN, "qwen-7b", 2, 80, 3, tokens, 1, "ran", used, options=_FLASH)
        for tokens, used in ((256, 69.6), (512, 74.0), (1024, 79.2))
    ),
    # LoRA of rank 64 on the attention's and the MLP's projections, of which queries, keys and values are one.
    *(
        Run(f"{_QWEN}: LoRA", "qwen-1.8b", 1, 80, 0, tokens, 1, "ran", used, options=_adapter(53_673_984))
        for tokens, used in ((256, 6.7), (512, 7.4), (1024, 8.4), (2048, 11.0), (4096, 16.2), (8192, 21.8))
    ),
    *(
        Run(f"{_QWEN}: LoRA", "qwen-7b", 1, 80, 0, tokens, 1, "ran", used, options=_adapter(143_130_624))
        for tokens, used in ((256, 20.1), (512, 20.4), (1024, 21.5), (2048, 23.8), (4096, 29.7), (8192, 36.6))
    ),
    Run(_SWIFT + "lora_sft.sh", "qwen2.5-7b", 1, 80, 0, 2048, 1, "ran", 22, options=_adapter(20_185_088)),
    Run("github.com/hiyouga/LlamaFactory/issues/1221", "llama-7b", 8, 32, 2, 512, 1, "out of memory", options=_FOREACH),
    Run("github.com/hiyouga/LlamaFactory/issues/1221: stage 3", "llama-7b", 8, 32, 3, 512, 1, "ran", options=_FOREACH),
    Run("github.com/hiyouga/LlamaFactory/issues/1158", "baichuan2-13b", 4, 80, 2, 1536, 1, "out of memory"),
    Run("github.com/hiyouga/LlamaFactory/issues/1158: 8", "baichuan2-13b", 8, 80, 2, 1536, 1, "ran", options=_PADDED),
    Run("github.com/hiyouga/LlamaFactory/issues/1158: 3", "baichuan2-13b", 4, 80, 3, 1536, 1, "ran", options=_PADDED),
    Run(
        "github.com/hiyouga/LlamaFactory/issues/260", "baichuan-7b", 8, 32, 2, 512, 1, "out of memory", options=_FOREACH
    ),
    Run("github.com/hiyouga/LlamaFactory/issues/260: A100", "baichuan-7b", 3, 80, 2, 512, 1, "ran", options=_PADDED),
    Run("github.com/tatsu-lab/stanford_alpaca/issues/56", "llama-7b", 1, 80, 0, 512, 1, "out of memory"),
    Run("github.com/tatsu-lab/stanford_alpaca/issues/56: two", "llama-7b", 2, 80, 3, 512, 1, "ran"),
    Run("github.com/tatsu-lab/stanford_alpaca: README", "llama-7b", 4, 80, 3, 512, 4, "ran", options={"masked": True}),
    Run("github.com/tatsu-lab/stanford_alpaca: OPT", "opt-6.7b", 4, 80, 3, 512, 4, "ran", options={"masked": True}),
    Run("github.com/tatsu-lab/stanford_alpaca/issues/280", "llama-7b", 8, 40, 3, 512, 1, "ran", offload="all"),
    Run("github.com/jquesnelle/yarn/issues/23", "llama-7b", 8, 80, 3, 65536, 1, "ran", options=_FLASH),
    Run("github.com/jquesnelle/yarn/issues/23: two", "llama-7b", 2, 80, 3, 65536, 1, "out of memory", options=_FLASH),
    Run(
        "github.com/deepspeedai/DeepSpeed/issues/3448: 600 GB of RAM",
        "llama-33b",
        8,
        40,
        3,
        2048,
        1,
        "out of memory",
        offload="all",
        host_gib=559,
        options=_FLASH,
    ),
    Run(
        "github.com/deepspeedai/DeepSpeed/issues/3448: 750 to 800 GB used",
        "llama-33b",
        8,
        40,
        3,
        2048,
        1,
        "ran",
        offload="all",
        host_gib=1000,
        options=_FLASH,
    ),
    Run(
        "gist.github.com/jondurbin/47a177cd23fc78731309ec047bea4f68",
        "mistral-7b",
        6,
        80,
        2,
        4096,
        3,
        "ran",
        options=_PADDED | _FOREACH,
    ),
    Run(
        "huggingface.co/jondurbin/airoboros-l2-70b-gpt4-1.4.1/discussions/2",
        "llama-70b",
        8,
        80,
        3,
        2048,
        1,
        "ran",
        offload="optimizer",
        options=_PADDED | {"optimizer_bytes": 1},
    ),
    Run("arxiv.org/abs/2101.06840: PyTorch", "gpt-1.4b", 1, 32, 0, 1024, 1, "ran", options=_PADDED),
    Run("arxiv.org/abs/2101.06840: 10 B", "gpt-10b", 1, 32, 2, 1024, 1, "ran", offload="optimizer", options=_FLASH),
    Run("arxiv.org/abs/2101.06840: 13 B", "gpt-13b", 1, 32, 2, 1024, 1, "ran", offload="optimizer", options=_FLASH),
    Run(
        "github.com/huggingface/alignment-handbook: zephyr-7b-beta, config_full.yaml",
        "mistral-7b",
        8,
        80,
        3,
        2048,
        16,
        "ran",
        options=_FLASH,
    ),
    Run("github.com/lm-sys/FastChat: README, Vicuna-7B", "llama-7b", 4, 40, 3, 2048, 2, "ran", options=_FLASH),
    Run(
        "github.com/waterhorse1/LLM_Tree_Search/issues/14",
        "llama-7b",
        2,
        80,
        2,
        512,
        1,
        "out of memory",
        options=_FOREACH,
    ),
    Run(
        "github.com/deepspeedai/DeepSpeed/issues/3770",
        "llama-7b",
        2,
        16,
        2,
        512,
        1,
        "out of memory",
        offload="optimizer",
    ),
]
