"""A rank that splits one tiny model of each architecture with the others, and compares it with the whole model."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM

from zerotune_trainer import compat
from zerotune_trainer.engines.deepspeed import split
from zerotune_trainer.sizing.shape import read_shape
from zerotune_trainer.sizing.tensor_parallel import ARCHITECTURES, shard_parameters

RANKS = 2
_SMALL = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_NAMES = {
    "bloom": {"n_head": 4, "n_layer": 2},
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "qwen3": {"head_dim": 8},
}
Result = tuple[float, int, int]
"""Largest difference of a logit, this rank's parameters, and as many as it is planned with."""


def rank(number: int, port: int, pipe: Connection) -> None:
    """Compare all architectures; send the results by name."""
    torch.set_num_threads(1)
    compat.without_shm_op()
    os.environ.update(GLOO_SOCKET_IFNAME="lo", LOCAL_RANK=str(number), RANK=str(number), WORLD_SIZE=str(RANKS))
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=number, world_size=RANKS)
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    group, _ = dist.new_subgroups(RANKS)
    pipe.send({name: _compare(name, group) for name in sorted(ARCHITECTURES)})
    dist.destroy_process_group()


def _compare(architecture: str, group: dist.ProcessGroup) -> Result:
    torch.manual_seed(0)
    left_out = ("num_key_value_heads", "intermediate_size") if architecture in ("bloom", "falcon") else ()
    small = {name: value for name, value in _SMALL.items() if name not in left_out}
    config = AutoConfig.for_model(architecture, **(small | _NAMES.get(architecture, {})))
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():  # Also biases, which are zero in a new model.
        torch.nn.init.normal_(parameter, std=0.3)
    model.tie_weights()
    ids = torch.randint(1, 300, (2, 12))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.inference_mode():
        whole = model(ids, attention_mask=mask).logits[mask.bool()]
    planned = shard_parameters(read_shape(config.to_dict()), RANKS)
    shards: Any = split(model, group, torch.float32)
    with torch.inference_mode():
        parts = shards(ids, attention_mask=mask).logits[mask.bool()]
    return float((whole - parts).abs().max()), sum(each.numel() for each in shards.parameters()), planned
