"""Files of a checkpoint or a model that run code when they are unpickled: they are not, and the job says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training.test_unloadable_checkpoint import rewrite
from zerotune_trainer.config import Launch
from zerotune_trainer.launching.forkserver import node_variables

pytestmark = pytest.mark.slow


class Touches:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("file", ["global_step6/*optim_states.pt", "scheduler.pt", "rng_state_1.pth"])
def test_a_checkpoint_with_code_in_it_is_skipped(interrupted: Any, tmp_path: Path, file: str) -> None:
    import torch

    job, touched = interrupted, tmp_path / "touched"
    rewrite(job.checkpoints / "checkpoint-6", file, lambda path: torch.save({"state": Touches(touched)}, path))
    ended = job.run()

    assert not touched.exists()
    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-4" in ended.log
    (reason,) = job.results()["skippedCheckpoints"]
    assert "it holds posix.mkdir, which no checkpoint does: it is not unpickled" in reason


def test_no_library_of_a_rank_unpickles_code(tmp_path: Path) -> None:
    import torch

    torch.save(Touches(tmp_path / "touched"), tmp_path / "weights.bin")
    load = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
    ended = subprocess.run(
        [sys.executable, "-c", load, str(tmp_path / "weights.bin")],
        env=os.environ | node_variables(Launch(cache_dir="/nowhere")),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "UnpicklingError" in ended.stderr
    assert not (tmp_path / "touched").exists()


def test_a_model_with_code_in_its_weights_is_rejected(make_job: Any, tmp_path: Path) -> None:
    import torch

    job, folder = make_job(), tmp_path / "model"
    shutil.copytree(job.config["model"]["uri"].removeprefix("file://"), folder)
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    job.config["model"]["uri"] = folder.as_uri()
    torch.save({"model.embed_tokens.weight": Touches(tmp_path / "touched")}, folder / "pytorch_model.bin")
    ended = job.run()

    assert not (tmp_path / "touched").exists()
    assert {failure.failure_class for failure in ended.failures.values()} == {"Configuration"}, ended.failures
