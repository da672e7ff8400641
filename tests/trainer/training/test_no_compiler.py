"""No rank compiles anything: not for its collectives, nor for an optimizer, on the device or off it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("stage", "offload"), [(2, False), (3, True)])
def test_a_job_leaves_the_folders_of_compilers_empty(make_job: Any, tmp_path: Path, stage: int, offload: bool) -> None:
    folders = {"TORCH_EXTENSIONS_DIR": tmp_path / "extensions", "TORCHINDUCTOR_CACHE_DIR": tmp_path / "inductor"}
    job = make_job(stage=stage)
    job.environment = {name: str(folder) for name, folder in folders.items()}
    job.config["training"]["maxSteps"] = 2
    job.config["checkpoint"]["saveStrategy"] = "no"
    if offload:
        job.deepspeed["zero_force_ds_cpu_optimizer"] = False
        job.deepspeed["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert [path for folder in folders.values() for path in folder.rglob("*")] == []
