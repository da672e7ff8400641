"""The buffers that a plan counts for parameters on disk are no fewer and no smaller than those that a rank makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from zerotune_trainer.engines.offload import buffers_of
from zerotune_trainer.sizing.offload import Buffers, planned_buffers
from zerotune_trainer.sizing.shape import read_shape

GOLDEN = Path(__file__).parents[2] / "golden" / "plan" / "models"
MODELS = {file.stem: json.loads(file.read_text()) for file in sorted(GOLDEN.glob("*.json"))}
FUSED = ("phi3", "mixtral", "qwen3_moe", "gpt_neox")
"""Architectures, in the sizes that their configuration has by default, that keep several matrices in one parameter."""


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("name", [*MODELS, *FUSED])
def test_a_rank_makes_no_more_buffers_than_are_planned(name: str, ranks: int) -> None:
    config = MODELS.get(name) or AutoConfig.for_model(name).to_dict()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    made, planned = buffers_of(model, torch.bfloat16, ranks), planned_buffers(read_shape(config), ranks)
    assert made.count <= planned.count
    assert made.size <= planned.size < 2 * made.size


def test_a_module_keeps_its_own_parameters_while_those_within_it_run() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.empty(1024, 1024, device="meta"))
            self.small = nn.Parameter(torch.empty(8, device="meta"))
            self.inner = nn.Linear(1024, 2048, device="meta")

    assert buffers_of(Outer(), torch.float32, ranks=1) == Buffers(3, 2 << 20)
    assert buffers_of(Outer(), torch.float32, ranks=8) == Buffers(2, 2 << 17)
