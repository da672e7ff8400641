"""A warning before checkpoints fill the disk (R39)."""

from __future__ import annotations

import shutil
from multiprocessing import Pipe
from pathlib import Path

import pytest


@pytest.mark.parametrize(("share", "warns"), [(0.9, False), (1.1, True)])
@pytest.mark.parametrize(("kept", "remedy"), [(2, "lower checkpoint.saveTotalLimit or give"), (0, "free: give")])
def test_checkpoints_that_will_not_fit_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, share: float, warns: bool, kept: int, remedy: str
) -> None:
    """14 bytes a parameter in bf16, for those that are kept here (none for a store) and the one being written."""
    import torch

    from zerotune_trainer.launching.heartbeat import Heartbeat
    from zerotune_trainer.training.volume import warn_on_volume

    parameters = int(shutil.disk_usage(tmp_path).free * share / 14 / (kept + 1))
    _, launcher = Pipe(duplex=False)
    warn_on_volume(tmp_path, parameters, torch.bfloat16, kept, Heartbeat(0, launcher))

    assert (f"{remedy} a larger volume" in caplog.text) is warns
