"""`zerotune run`, `status` and `logs` with real launchers, ranks and training, and everything that may befall them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

from zerotune_operator.api.status import JobStatus
from zerotune_trainer.config import RENDEZVOUS_FILE
from zerotune_trainer.reporting.results import TrainRecord, read_metrics

if TYPE_CHECKING:
    from tests.trainer.local.conftest import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 300


def _manifest(folder: Path, material: Path) -> Path:
    """Continued pre-training on two nodes with ZeRO-2, then a batch inference with its result."""
    header = {"apiVersion": "zerotune.dev/v1alpha1"}
    training = {
        "method": "cpt",
        "model": {"uri": (material / "model").as_uri()},
        "data": {"train": {"uris": [(material / "train.jsonl").as_uri()]}, "maxLength": 64},
        "training": {"globalBatchSize": 4, "maxSteps": STEPS, "learningRate": 1e-3},
        "zero": {"stage": 2},
        "checkpoint": {"saveSteps": 100},
        "topology": {"nodes": 2},
    }
    inference = {
        "model": {"fromFineTuneJob": "cwe"},
        "data": {"uris": [(material / "questions.jsonl").as_uri()]},
        "generation": {"maxNewTokens": 4},
        "topology": {"nodes": 1},
    }
    jobs = [
        header | {"kind": "FineTuneJob", "metadata": {"name": "cwe"}, "spec": training},
        header | {"kind": "InferenceJob", "metadata": {"name": "answers"}, "spec": inference},
    ]
    path = folder / "jobs.yaml"
    path.write_text(yaml.safe_dump_all(jobs))
    return path


def _beyond(step: int, attempt: int) -> Callable[[JobStatus], bool]:
    """Whether an attempt has made steps."""

    def reached(status: JobStatus) -> bool:
        newest = status.attempts[-1] if status.attempts else None
        return newest is not None and newest.number == attempt and (newest.last_step or 0) > step

    return reached


def _assert_secret_stays_in(attempt: Path) -> None:
    """What the ranks of an attempt know each other by is for its owner alone, and in no other file of the job."""
    secret = attempt / RENDEZVOUS_FILE
    assert (attempt.stat().st_mode & 0o777, secret.stat().st_mode & 0o777) == (0o700, 0o600)
    others = [path for path in attempt.parent.rglob("*") if path.is_file() and path != secret]
    assert secret.read_bytes() not in b"".join(path.read_bytes() for path in others)


def test_a_job_survives_everything_and_its_output_is_run(workplace: Workplace, material: Path, tmp_path: Path) -> None:
    """R01: nodes and ranks are all that a job says of where it runs; addresses and ports are found for it."""
    manifest = _manifest(tmp_path, material)

    run = workplace.start(manifest, "cwe")
    run.wait_until(lambda status: status.phase == "Running")
    launchers = run.launchers()
    assert len(launchers) == 2
    _assert_secret_stays_in(run.folder.attempt(0).path)
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    run.process.send_signal(signal.SIGINT)
    assert run.end(20)[0] == 143, "Ctrl-C twice ends at once, whatever the nodes do"
    assert not any(launcher.is_running() for launcher in launchers)
    assert workplace.zerotune("status")[1].split("\n")[1].split()[:5] == ["cwe", "FineTuneJob", "cpt", "2", "Suspended"]

    run = workplace.start(manifest, "cwe")
    run.wait_until(_beyond(0, 1))
    code, printed = workplace.zerotune("run", str(manifest))
    assert (code, f"FineTuneJob 'cwe' is running already (started by process {run.process.pid})" in printed) == (
        75,
        True,
    )
    launchers = run.launchers()
    run.process.kill()
    psutil.wait_procs(launchers, 60)
    assert not run.folder.is_running(), "no launcher outlives its runner"
    shown = json.loads(workplace.zerotune("status", "cwe", "-o", "json")[1])["status"]
    assert (shown["phase"], shown["rootCause"]["class"], shown["attempts"][1]["outcome"]) == (
        "Failed",
        "Killed",
        "Failed",
    )

    run = workplace.start(manifest, "cwe")
    killed_at = run.status.attempts[1].last_step or 0
    run.wait_until(_beyond(killed_at, 2))
    run.process.send_signal(signal.SIGINT)
    code, printed = run.end(60)
    assert (code, run.status.phase) == (143, "Suspended")
    assert "cwe: stopped: stopped on request after step" in printed
    stopped_at = run.status.attempts[2].last_step or 0

    run = workplace.start(manifest, "cwe")
    run.wait_until(_beyond(stopped_at, 3))
    run.launchers()[1].kill()
    assert run.end()[0] == 0, run.output.read_text()
    status = run.status
    assert [(attempt.outcome, attempt.failure_class) for attempt in status.attempts] == [
        ("Stopped", "Killed"),
        ("Failed", "Killed"),
        ("Stopped", "Stopped"),
        ("Failed", "Killed"),
        ("Succeeded", None),
    ]
    assert status.restarts == 1
    assert (status.progress and status.progress.step) == STEPS
    records = [record for record in read_metrics(run.folder.output) if isinstance(record, TrainRecord)]
    assert (status.progress.loss, status.progress.epoch) == (records[-1].loss, records[-1].epoch)
    assert [record.step for record in records] == list(range(1, STEPS + 1)), "every step once, whatever happened"

    answers = workplace.home.job("InferenceJob", "answers")
    [origin] = json.loads((answers.attempt(0).path / "config.json").read_text())["origins"]
    assert (origin["name"], origin["uri"]) == ("cwe", run.folder.output.as_uri())
    result = answers.read_status()
    assert (result.phase, result.progress and (result.progress.step, result.progress.failed_records)) == (
        "Succeeded",
        (15, 0),
    )
    rows = [json.loads(line) for path in sorted(answers.output.glob("part-*.jsonl")) for line in path.open()]
    assert [row["id"] for row in rows] == [json.loads(line)["id"] for line in (material / "questions.jsonl").open()]

    code, printed = workplace.zerotune("run", str(manifest))
    assert (code, printed.splitlines()) == (
        0,
        [
            f"cwe: finished already, there is nothing to do; its output is {run.folder.output.as_uri()}",
            f"answers: finished already, there is nothing to do; its output is {answers.output.as_uri()}",
        ],
    )
    assert "[node-1] " in workplace.zerotune("logs", "cwe")[1]
    assert "all ranks of this host are done" in workplace.zerotune("logs", "cwe", "--node", "0", "--attempt", "4")[1]


def test_a_student_learns_what_its_teacher_answered(workplace: Workplace, material: Path, tmp_path: Path) -> None:
    """Of the teacher's folder, which also has metrics, results, a report and a manifest, the records alone are read,
    and of these the ones that have an answer."""
    model, questions = {"uri": (material / "model").as_uri()}, tmp_path / "questions.jsonl"
    questions.write_text('{"prompt": null}\n' + (material / "questions.jsonl").read_text() + "not JSON\n")
    teacher = {"model": model, "data": {"uris": [questions.as_uri()]}, "generation": {"maxNewTokens": 4}}
    columns = {"prompt": "prompt", "completion": "generation"}
    student = {
        "method": "sft",
        "model": model,
        "data": {"train": {"fromInferenceJob": "teacher"}, "columns": columns, "maxLength": 64},
        "training": {"globalBatchSize": 5, "numTrainEpochs": 1},
    }
    header = {"apiVersion": "zerotune.dev/v1alpha1"}
    jobs = [
        header | {"kind": "InferenceJob", "metadata": {"name": "teacher"}, "spec": teacher},
        header | {"kind": "FineTuneJob", "metadata": {"name": "student"}, "spec": student},
    ]
    manifest = tmp_path / "jobs.yaml"
    manifest.write_text(yaml.safe_dump_all(jobs))

    code, shown = workplace.zerotune("run", str(manifest))
    assert code == 0, shown
    answers = workplace.home.job("InferenceJob", "teacher").output
    status = workplace.home.job("FineTuneJob", "student").read_status()
    assert status.data_uris == {"data.train": answers.as_uri()}
    assert (status.progress and status.progress.step) == 3, "15 answers, 5 at once"
    results = json.loads((workplace.home.job("FineTuneJob", "student").output / "results.json").read_text())
    assert (results["counts"]["train"]["records"], results["counts"]["train"]["failedRecords"]) == (17, 2)


def test_bad_data_ends_with_its_exit_code_and_says_where(workplace: Workplace, material: Path, tmp_path: Path) -> None:
    rows = (material / "train.jsonl").read_text().splitlines(keepends=True)
    rows[2] = rows[2][:20] + "\n"
    data = tmp_path / "train.jsonl"
    data.write_text("".join(rows))
    spec = {
        "method": "cpt",
        "model": {"uri": (material / "model").as_uri()},
        "data": {"train": {"uris": [data.as_uri()]}, "maxLength": 64},
        "training": {"globalBatchSize": 2, "maxSteps": 5},
        "topology": {"nodes": 2},
        "runPolicy": {"maxRestarts": 3},
    }
    header = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "broken"}}
    manifest = tmp_path / "job.yaml"
    jobs = [header | {"metadata": {"name": name}, "spec": spec} for name in ("broken", "next")]
    manifest.write_text(yaml.safe_dump_all(jobs))

    done = workplace.finished("run", str(manifest))
    folder = workplace.home.job("FineTuneJob", "broken")
    failed, hint, logs = done.stderr.splitlines()[-3:]
    assert done.returncode == 65, done.stderr
    assert failed.startswith("error: broken failed") and "(Data): " in failed and "train.jsonl:3" in failed
    assert hint.startswith("  hint: ") and len(hint) > len("  hint: ")
    assert logs == f"  logs: {folder.attempt(0).path}"
    assert done.stdout.splitlines()[-1] == "next: not begun, since broken did not succeed"
    assert "train.jsonl:3" in folder.attempt(0).log(0).read_text()

    status = folder.read_status()
    assert (folder.attempts(), status.restarts) == ([0], 0), "bad data is as bad the next time"
    assert [(attempt.outcome, attempt.failure_class) for attempt in status.attempts] == [("Failed", "Data")]
    described = workplace.zerotune("status", "broken")[1].splitlines()
    assert "Phase:          Failed" in described
    cause = next(line for line in described if line.startswith("Root cause:"))
    assert cause.split()[2] == "Data" and "train.jsonl:3" in cause
