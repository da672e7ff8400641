"""`topology.replicas` on this machine, with real launchers: one that is killed comes back alone; the number changes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

if TYPE_CHECKING:
    from tests.trainer.local.conftest import Run, Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECORDS = 60


def manifest(folder: Path, material: Path, name: str, replicas: int) -> Path:
    questions = folder / "many.jsonl"
    if not questions.exists():
        questions.write_text((material / "questions.jsonl").read_text() * (RECORDS // 15))
    spec = {
        "model": {"uri": (material / "model").as_uri()},
        "engine": "transformers",
        "data": {"uris": [questions.as_uri()]},
        "generation": {"maxNewTokens": 48, "minNewTokens": 48, "doSample": True},
        "perDeviceBatchSize": 1,
        "topology": {"replicas": replicas},
        "outputFormat": {"rowsPerFile": 2},
    }
    job = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "InferenceJob", "metadata": {"name": name}, "spec": spec}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def started(workplace: Workplace, material: Path, name: str, replicas: int) -> Run:
    return workplace.start(manifest(workplace.folder, material, name, replicas), name, "InferenceJob")


def until_records(run: Run, least: int) -> None:
    run.wait_until(lambda status: bool(status.progress) and status.progress.step >= least, 300)  # type: ignore[union-attr]


def content(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.folder.output.glob("part-*"))}


def launcher_of(run: Run, host: str) -> psutil.Process:
    return next(each for each in run.launchers() if host in each.cmdline())


def test_a_killed_replica_comes_back_alone(workplace: Workplace, material: Path) -> None:
    run = started(workplace, material, "shared", 2)
    until_records(run, 10)
    first, second = (launcher_of(run, f"127.0.0.{number}") for number in (1, 2))
    second.kill()
    code, printed = run.end(400)
    assert code == 0, printed
    assert "replica 1: Killed: " in printed
    assert "it is started again alone, and the others go on" in printed
    (attempt,) = run.status.attempts
    assert (attempt.outcome, attempt.replica_restarts, run.status.restarts) == ("Succeeded", 1, 0)
    assert not first.is_running()
    alone = started(workplace, material, "alone", 1)
    assert alone.end(400)[0] == 0
    rows = b"".join(content(run).values())
    assert rows.count(b"\n") == RECORDS
    assert rows == b"".join(content(alone).values())


def test_replicas_are_changed_while_the_job_rests(workplace: Workplace, material: Path) -> None:
    counts = (2, 1, 3)
    for count in counts:
        run = started(workplace, material, "changed", count)
        before = run.status.progress.step if count != counts[0] and run.status.progress else 0
        if count != counts[-1]:
            until_records(run, before + 8)
            run.process.send_signal(signal.SIGINT)
        code, printed = run.end(400)
        assert code == (0 if count == counts[-1] else 143), printed
    assert [attempt.outcome for attempt in run.status.attempts] == ["Stopped", "Stopped", "Succeeded"]
    assert b"".join(content(run).values()).count(b"\n") == RECORDS
