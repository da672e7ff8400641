"""The attention mask's share of memory, as planned and as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from zerotune_trainer.data.collate import PackingCollator, PaddingCollator
from zerotune_trainer.sizing.activations import activations
from zerotune_trainer.sizing.shape import read_shape
from zerotune_trainer.sizing.workload import Workload, default_settings

ROWS, LENGTH = 2, 96
IDS = np.ones(LENGTH, dtype=np.int64)
BATCHES = {
    "packed": PackingCollator(0)([{"input_ids": IDS, "labels": IDS, "seq_lengths": [40, 56]}] * ROWS),
    "padded": PaddingCollator(0)([{"input_ids": IDS[:end], "labels": IDS[:end]} for end in (70, LENGTH)]),
    "whole": PaddingCollator(0)([{"input_ids": IDS, "labels": IDS}] * ROWS),
}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("rows", BATCHES)
def test_masks_kept_for_the_backward_pass_are_those_planned(rows: str, precision: Any) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4
    )
    model = LlamaForCausalLM(config).to({"bf16": torch.bfloat16, "fp32": torch.float32}[precision]).train()
    masks: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape == (ROWS, 1, LENGTH, LENGTH):
            masks[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**BATCHES[rows] | {"use_cache": False}).loss
    assert loss.requires_grad
    of_one_byte = ROWS * LENGTH**2 if rows != "whole" else 0
    shape = read_shape(config.to_dict())
    planned = {
        masked: activations(
            Workload(
                shape=shape,
                settings=default_settings(shape, on_cpu=True),
                precision=precision,
                micro_batch=ROWS,
                sequence_length=LENGTH,
                data_parallel=1,
                ranks_per_node=1,
                on_cpu=True,
                masked=masked,
            )
        ).layers
        for masked in (False, rows != "whole")
    }
    assert sum(masks.values()) + of_one_byte == planned[rows != "whole"] - planned[False]
