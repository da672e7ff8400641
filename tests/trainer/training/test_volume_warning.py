"""A warning before checkpoints fill the disk (R39)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.mark.parametrize(("share", "warns"), [(0.9, False), (1.1, True)])
def test_checkpoints_that_will_not_fit_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, share: float, warns: bool
) -> None:
    """14 bytes a parameter in bf16, for the two that are kept and the one being written."""
    import torch

    from zerotune_trainer.training.checkpoint import warn_on_volume

    parameters = int(shutil.disk_usage(tmp_path).free * share / 14 / 3)
    warn_on_volume(tmp_path, parameters, torch.bfloat16, limit=2)

    assert ("lower checkpoint.saveTotalLimit" in caplog.text) is warns
