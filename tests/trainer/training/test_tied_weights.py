"""Embeddings that are tied are in the output once, as in the folder that a model came from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

pytestmark = pytest.mark.slow


def names(folder: Path) -> list[str]:
    with safe_open(folder / "model.safetensors", "pt") as weights:
        return sorted(weights.keys())


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_tied_embeddings_are_saved_once(make_job: Any, model_folder: Path, tmp_path: Path, stage: int) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    config = AutoConfig.from_pretrained(folder, tie_word_embeddings=True)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    job = make_job(stage=stage, hosts="127.0.0.1 slots=1\n")
    job.config["model"]["uri"] = folder.as_uri()
    job.config["training"]["maxSteps"] = 1
    assert job.run().exit_codes == [0]
    assert names(job.output) == names(folder)
    assert "lm_head.weight" not in names(folder)
    _, info = AutoModelForCausalLM.from_pretrained(job.output, output_loading_info=True)
    assert not info["missing_keys"]
