"""The folder of a local job: what is written is read back, and the lock shows who is alive."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.unit.kubernetes.rendering import inference_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.admit import admit
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.processes import RunningNode
from zerotune_operator.backends.local.render import NodeProcess
from zerotune_operator.cli.app import build
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError
from zerotune_trainer.progress import Progress

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_job_is_kept_as_a_person_would_write_it(home: Home, job: Callable[..., Job]) -> None:
    folder = home.create("FineTuneJob", "cwe")
    admitted = admit(job(), folder, NOW)
    folder.write_job(admitted)
    assert folder.read_job() == admitted
    written = yaml.safe_load((home.path / "finetunejob" / "cwe" / "job.yaml").read_text())
    assert written["metadata"] == {
        "name": "cwe",
        "uid": admitted.metadata.uid,
        "creationTimestamp": "2026-01-02T03:04:05Z",
    }
    assert written["spec"]["training"] == {"globalBatchSize": 4}, "defaults are left out"


def test_the_same_job_keeps_its_uid(home: Home, job: Callable[..., Job]) -> None:
    folder = home.create("FineTuneJob", "cwe")
    first = admit(job(), folder, NOW)
    folder.write_job(first)
    assert admit(job(), folder, NOW).metadata == first.metadata
    assert home.create("FineTuneJob", "other").path != folder.path


def test_a_changed_spec_is_rejected_once_there_is_something_to_lose(home: Home, job: Callable[..., Job]) -> None:
    folder = home.create("FineTuneJob", "cwe")
    folder.write_job(admit(job(), folder, NOW))
    changed = job(training={"globalBatchSize": 8, "learningRate": 1e-3}, runPolicy={"maxRestarts": 0})
    assert admit(changed, folder, NOW).spec == changed.spec, "no step was made yet"

    folder.write_status(JobStatus(phase="Failed", progress=Progress(step=1, total=9)))
    with pytest.raises(ConfigurationError) as rejected:
        admit(changed, folder, NOW)
    assert rejected.value.message == (
        "FineTuneJob 'cwe' has run with another spec before: training.globalBatchSize was 4, is 8; "
        "training.learningRate was 2e-05, is 0.001"
    )
    assert "--name" in rejected.value.hint and "--fresh" in rejected.value.hint
    assert admit(job(runPolicy={"maxRestarts": 0}), folder, NOW), "the run policy may change at any time"


def test_an_inference_that_had_too_many_errors_goes_on_with_more_of_them_allowed(home: Home) -> None:
    folder = home.create("InferenceJob", "tune")
    folder.write_job(admit(inference_job(maxErrorRate=0.1), folder, NOW))
    folder.write_status(JobStatus(phase="Failed", progress=Progress(step=1, total=9)))
    assert admit(inference_job(maxErrorRate=0.5), folder, NOW).spec.model_dump()["max_error_rate"] == 0.5


def test_a_status_is_read_back_whole(home: Home) -> None:
    folder = home.create("FineTuneJob", "cwe")
    assert folder.read_status() == JobStatus()
    status = JobStatus(phase="Running", start_time=NOW, progress=Progress(step=1, total=9, loss=2.5))
    folder.write_status(status)
    assert folder.read_status() == status


@pytest.mark.slow
def test_a_second_runner_reads_who_the_first_is(home: Home) -> None:
    folder = home.create("FineTuneJob", "cwe")
    hold = (
        "import sys; from pathlib import Path; from zerotune_operator.backends.local.job_folder import JobFolder\n"
        "with JobFolder(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert folder.is_running()
        with pytest.raises(TemporaryError) as rejected, folder.locked():
            pass
        assert rejected.value.message == f"FineTuneJob 'cwe' is running already (started by process {holder.pid})"
        holder.kill()
    assert not folder.is_running(), "the kernel frees the lock of a process that is killed"
    with folder.locked():
        pass


def test_a_node_holds_the_lock_of_a_runner_that_has_died(home: Home, tmp_path: Path) -> None:
    folder = home.create("FineTuneJob", "cwe")
    node = NodeProcess("127.0.0.1", ("sleep", "60"), {}, tmp_path / "log", tmp_path / "message")
    with folder.locked() as lock:
        running = RunningNode(node, 1, lock)
    assert folder.is_running()
    running.terminate()
    while not running.ended:
        pass
    assert running.observe().exit_code == -15
    assert not folder.is_running()


@pytest.mark.parametrize("blocked", ["home", "job"])
def test_a_state_folder_that_cannot_be_written_is_named(home: Home, blocked: str) -> None:
    if blocked == "home":
        home.path.write_text("a file where the folder should be")
    else:
        home.path.mkdir()
        (home.path / "finetunejob").write_text("")
    with pytest.raises(ConfigurationError) as rejected:
        home.create("FineTuneJob", "cwe")
    assert rejected.value.message.startswith(f"local jobs keep their state in {home.path}, which cannot be written: ")
    assert rejected.value.hint == "set ZEROTUNE_HOME to a folder that you can write"


def test_starting_over_puts_the_old_job_aside_whole(home: Home, job: Callable[..., Job]) -> None:
    folder = home.create("FineTuneJob", "cwe")
    folder.write_job(admit(job(), folder, NOW))
    folder.output.mkdir()
    (folder.output / "model.safetensors").write_text("weights")
    place = home.put_aside(folder, NOW)
    assert place == home.path / "replaced" / "finetunejob-cwe-20260102T030405.000000"
    assert (place / "output" / "model.safetensors").read_text() == "weights"
    assert home.jobs() == []


def test_a_job_is_found_by_name_or_the_others_are_named(home: Home, job: Callable[..., Job]) -> None:
    folder = home.create("FineTuneJob", "cwe")
    folder.write_job(admit(job(), folder, NOW))
    assert home.find("cwe") == [folder]
    with pytest.raises(InputMissingError) as missing:
        home.find("cve")
    assert missing.value.message == f"there is no job 'cve' in {home.path} (there are: cwe)"


@pytest.mark.parametrize(("file", "content"), [("status.json", '{"phase": "Runn'), ("job.yaml", "kind: [")])
def test_a_damaged_file_of_one_job_hides_no_other(home: Home, job: Callable[..., Job], file: str, content: str) -> None:
    for name in ("broken", "whole"):
        folder = home.create("FineTuneJob", name)
        folder.write_job(admit(job(name), folder, NOW))
        folder.write_status(JobStatus(phase="Failed"))
    damaged = home.job("FineTuneJob", "broken").path / file
    damaged.write_text(content)

    shown = CliRunner().invoke(build(), ["status"])

    assert shown.exit_code == 65
    assert shown.stdout.splitlines()[1].startswith("whole")
    assert f"{damaged} is damaged" in shown.stderr
    assert "--fresh" in shown.stderr


def test_who_waits_for_a_job_that_is_put_aside_locks_the_new_one(home: Home, job: Callable[..., Job]) -> None:
    folder = home.create("FineTuneJob", "cwe")
    folder.write_job(admit(job(), folder, NOW))
    held = []

    def wait() -> None:
        with folder.locked() as descriptor:
            held.append(os.fstat(descriptor).st_ino)
            held.append((folder.path / "lock").stat().st_ino)

    with folder.locked():
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        home.put_aside(folder, NOW)
    waiting.join(10)

    assert len(held) == 2
    assert held[0] == held[1]
