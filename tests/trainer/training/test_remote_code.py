"""Models that bring their own code, here one with a bool buffer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CODE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM


class FlaggedConfig(LlamaConfig):
    model_type = "flagged"


class FlaggedForCausalLM(LlamaForCausalLM):
    config_class = FlaggedConfig

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("flags", torch.ones(8, dtype=torch.bool))
"""


@pytest.fixture
def flagged(model_with_code: Callable[[str, str], Path]) -> Path:
    import torch
    from safetensors.torch import load_file, save_file

    folder = model_with_code("Flagged", CODE)
    weights = load_file(folder / "model.safetensors") | {"flags": torch.ones(8, dtype=torch.bool)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("stage", [0, 3])
def test_a_bool_buffer_does_not_keep_ranks_from_training(make_job: Any, flagged: Path, stage: int) -> None:
    """R23: DeepSpeed does not broadcast buffers at every step, which is what fails for bool ones in DDP."""
    job = make_job(stage=stage)
    job.config["model"] |= {"uri": f"file://{flagged}", "trustRemoteCode": True}
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    results = job.results()
    assert results["evalLoss"] < results["firstEvalLoss"]


def test_remote_code_is_rejected_unless_allowed(make_job: Any, flagged: Path) -> None:
    """R20."""
    job = make_job()
    job.config["model"]["uri"] = f"file://{flagged}"
    ended = job.run()

    assert ended.own_exit_codes == {64}
    assert "trust_remote_code" in ended.failures[0].message
    assert "model.trustRemoteCode" in ended.failures[0].hint


def test_attention_can_be_chosen(make_job: Any) -> None:
    """R20: eager and sdpa compute the same; the config of the output says which ran."""
    curves = []
    for implementation in ("eager", "sdpa"):
        job = make_job(implementation)
        job.config["model"]["attnImplementation"] = implementation
        job.config["training"]["maxSteps"] = 2
        job.config["checkpoint"]["saveStrategy"] = "no"
        ended = job.run()
        assert ended.exit_codes == [0, 0], ended.failures
        assert f"attention {implementation}" in ended.log
        curves.append(job.losses())
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
