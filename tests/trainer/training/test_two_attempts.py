"""An attempt that was cut off and still runs, such as on a lost node, beside the one that took its place."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.trainer.training.training_job import eight_steps
from zerotune_trainer.manifest import differences, files_of, read_manifest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("woken_at", ["while the other trains", "when the other is done"])
def test_the_older_attempt_completes_nothing_once_the_newer_has_begun(
    make_job: Any, expected: Any, woken_at: str
) -> None:
    job = eight_steps(make_job())
    older = job.start()
    older.until(lambda heartbeat: heartbeat.step >= 3)
    older.signal(signal.SIGSTOP)
    before = {path.parent.name for path in job.checkpoints.glob("*/manifest.json")}
    job.config["job"]["attempt"] = 1
    newer = job.start()
    newer.until(lambda heartbeat: heartbeat.phase == "training" and heartbeat.step >= 3)
    if woken_at == "when the other is done":
        assert newer.end().exit_codes == [0, 0]
    older.signal(signal.SIGCONT)
    ended, superseded = newer.end(), older.end()

    assert ended.exit_codes == [0, 0], ended.failures
    assert 77 in superseded.exit_codes and 0 not in superseded.exit_codes, superseded.failures
    folders = [job.output, *job.checkpoints.glob("checkpoint-*")]
    manifests = {folder.name: read_manifest(folder) for folder in folders}
    for folder in folders:
        manifest = manifests[folder.name]
        assert manifest is not None and differences(folder, manifest) == []
        assert manifest.job.attempt == 1 or folder.name in before
    for folder in folders[1:]:
        manifest = manifests[folder.name]
        assert manifest is not None
        assert {path.relative_to(folder).as_posix() for path in files_of(folder)} == {f.path for f in manifest.files}
    assert (job.curve(), job.weights()) == expected(2)
