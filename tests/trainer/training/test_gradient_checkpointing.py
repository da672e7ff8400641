"""Gradient checkpointing, counted by a model that writes down every forward pass of its first attention (R21)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CODE = """
import os

from transformers import LlamaConfig, LlamaForCausalLM


class CountedConfig(LlamaConfig):
    model_type = "counted"


class CountedForCausalLM(LlamaForCausalLM):
    config_class = CountedConfig

    def __init__(self, config):
        super().__init__(config)
        self.model.layers[0].self_attn.register_forward_pre_hook(count)


def count(attention, arguments):
    if attention.training:
        with open(os.environ["FORWARD_PASSES"], "a") as file:
            file.write("x")
"""


def test_r21_gradient_checkpointing_computes_layers_again_and_changes_no_loss(
    make_job: Any, model_with_code: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = model_with_code("Counted", CODE)
    passes, curves = {}, {}
    for switch in (False, True):
        job = make_job(f"checkpointing-{switch}")
        job.environment = {"FORWARD_PASSES": str(tmp_path / f"passes-{switch}")}
        job.config["model"] |= {"uri": model.as_uri(), "trustRemoteCode": True}
        job.config["training"] |= {"gradientCheckpointing": switch, "maxSteps": 3}
        job.config["checkpoint"]["saveStrategy"] = "no"
        ended = job.run()
        assert ended.exit_codes == [0, 0], ended.failures
        passes[switch] = len((tmp_path / f"passes-{switch}").read_text())
        curves[switch] = job.losses()
    ranks, steps = 2, 3
    assert passes == {False: ranks * steps, True: 2 * ranks * steps}
    assert curves[True] == pytest.approx(curves[False], abs=1e-5)
