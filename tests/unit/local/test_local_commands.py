"""`zerotune run`, `status` and `logs` where nothing has to be started."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.local.planning import plan_here
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import Attempt, JobStatus, NodeTopology, OutputSummary, RootCause, display
from zerotune_operator.backends.local.admit import admit
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.cli.app import build
from zerotune_operator.cli.live import PlainView
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, describe
from zerotune_trainer.progress import NodeProgress, Progress, RankProgress

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def zerotune(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command prints; the error that it would end with is raised."""

    def run(*arguments: str) -> str:
        assert not build().main(list(arguments), prog_name="zerotune", standalone_mode=False)
        return capsys.readouterr().out

    return run


def keep(home: Home, job: Job, status: JobStatus) -> JobFolder:
    folder = home.create(job.kind, job.metadata.name)
    folder.write_job(admit(job, folder, NOW))
    folder.write_status(status)
    return folder


PROGRESS = Progress(step=3, total=9, loss=2.5, tokens_per_second=1234.5, eta_seconds=61)
RUNNING = JobStatus(
    phase="Running",
    progress=PROGRESS,
    display=display(PROGRESS),
    topology=[NodeTopology(host="127.0.0.1", hostname="box", first_rank=0, ranks=2, device="cpu")],
    attempts=[Attempt(number=0, start_time=NOW, first_step=0, last_step=3)],
)


def test_jobs_are_listed_as_kubectl_would(zerotune: Callable[..., str], home: Home, job: Callable[..., Job]) -> None:
    assert zerotune("status") == f"no jobs in {home.path}\n"
    folder = keep(home, job(topology={"nodes": 2}), RUNNING)
    with folder.locked():
        head, row = zerotune("status").splitlines()
    assert head.split() == ["NAME", "KIND", "METHOD", "NODES", "PHASE", "STEP", "LOSS", "TOKENS/S", "ETA", "AGE"]
    assert row.split()[:-1] == ["cwe", "FineTuneJob", "cpt", "2", "Running", "3/9", "2.5", "1234", "1m1s"]


def test_a_job_that_nobody_runs_is_not_shown_as_running(
    zerotune: Callable[..., str], home: Home, job: Callable[..., Job]
) -> None:
    keep(home, job(), RUNNING)
    row = zerotune("status").splitlines()[1]
    assert row.split()[:-1] == ["cwe", "FineTuneJob", "cpt", "1", "Failed", "3/9", "2.5"]
    status = json.loads(zerotune("status", "cwe", "-o", "json"))["status"]
    assert (status["phase"], status["rootCause"]) == (
        "Failed",
        {
            "class": "Killed",
            "message": "the process that ran this job went away while it was Running",
            "hint": "run it again: it goes on from its last checkpoint",
        },
    )


def test_one_job_is_described(
    zerotune: Callable[..., str], home: Home, job: Callable[..., Job], inference: Callable[[str], Job]
) -> None:
    cause = RootCause(failure_class="Data", message="a.jsonl:3: not JSON", hint="mend it", rank=1, host="127.0.0.1")
    ended = RUNNING.attempts[0].model_copy(update={"outcome": "Failed", "failure_class": "Data"})
    keep(home, job(), RUNNING.model_copy(update={"phase": "Failed", "root_cause": cause, "attempts": [ended]}))
    assert zerotune("status", "cwe").splitlines() == [
        "Name:           cwe",
        "Kind:           FineTuneJob",
        "Phase:          Failed",
        f"Folder:         {home.path}/finetunejob/cwe",
        "Step:           3/9",
        "Loss:           2.5",
        "Root cause:     Data (rank 1, host 127.0.0.1): a.jsonl:3: not JSON",
        "                hint: mend it",
        "",
        "HOST        HOSTNAME   RANKS   DEVICE",
        "127.0.0.1   box        0-1     cpu",
        "",
        "ATTEMPT   OUTCOME   CLASS   STEPS   STARTED                     TOOK",
        "0         Failed    Data    0-3     2026-01-02T03:04:05+00:00",
    ]
    lost = ended.model_copy(update={"replica_restarts": 2, "replica_failure": "replica 1: rank 1 was killed"})
    keep(home, job(), RUNNING.model_copy(update={"phase": "Failed", "root_cause": cause, "attempts": [lost]}))
    last = zerotune("status", "cwe").splitlines()[-1]
    assert last == "Attempt 0: 2 restarts of replicas; the last: replica 1: rank 1 was killed"
    listed = yaml.safe_load(zerotune("status", "-o", "yaml"))
    assert (listed["kind"], listed["items"][0]["spec"]["method"]) == ("List", "cpt")

    done = Progress(step=15, total=15, failed_records=0)
    answered = JobStatus(phase="Succeeded", progress=done, display=display(done))
    for failed in (0, 2):
        progress = done.model_copy(update={"failed_records": failed})
        keep(home, inference("cwe"), answered.model_copy(update={"progress": progress}))
        assert zerotune("status", "answers").splitlines() == [
            "Name:           answers",
            "Kind:           InferenceJob",
            "Phase:          Succeeded",
            f"Folder:         {home.path}/inferencejob/answers",
            "Step:           15/15",
            f"Failed records: {failed}",
        ]


def test_logs_are_those_of_the_nodes_of_an_attempt(
    zerotune: Callable[..., str], home: Home, job: Callable[..., Job]
) -> None:
    folder = keep(home, job(), RUNNING)
    for attempt, nodes in ((0, 1), (1, 2)):
        folder.attempt(attempt).path.mkdir()
        for node in range(nodes):
            folder.attempt(attempt).log(node).write_text(f"attempt {attempt}\nnode {node}\n")
    assert zerotune("logs", "cwe").splitlines() == [
        "[node-0] attempt 1",
        "[node-0] node 0",
        "[node-1] attempt 1",
        "[node-1] node 1",
    ]
    assert zerotune("logs", "cwe", "--node", "1") == "attempt 1\nnode 1\n"
    assert zerotune("logs", "cwe", "--attempt", "0", "-f") == "attempt 0\nnode 0\n"
    with pytest.raises(InputMissingError, match="attempt 1 has no node 2"):
        zerotune("logs", "cwe", "--node", "2")
    with pytest.raises(InputMissingError, match="has no attempt 7"):
        zerotune("logs", "cwe", "--attempt", "7")
    with pytest.raises(InputMissingError, match="there is no job 'nothing'"):
        zerotune("logs", "nothing")


def finish(home: Home, job: Job) -> JobFolder:
    """A job that has succeeded, with its output."""
    folder = home.create(job.kind, job.metadata.name)
    admitted = admit(job, folder, NOW)
    folder.write_job(admitted)
    plan = plan_here(admitted, folder, home, 0)
    folder.output.mkdir()
    weights = folder.output / "model.safetensors"
    weights.write_text("weights")
    files = describe(folder.output, [weights])
    whole = Manifest(job=plan.config.job, config_digest=plan.config.digest(), step=9, files=files)
    (folder.output / MANIFEST_NAME).write_bytes(whole.encoded())
    output = OutputSummary(uri=folder.output.as_uri(), step=9, files=1, bytes=7)
    done = Progress(step=9, total=9)
    folder.write_status(JobStatus(phase="Succeeded", plan=plan.summary(), progress=done, output=output))
    return folder


def test_a_finished_job_says_so_and_does_nothing(
    zerotune: Callable[..., str],
    home: Home,
    manifest: Callable[..., dict[str, Any]],
    job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    folder = finish(home, job())
    before = sorted(home.path.rglob("*"))
    file = _write(tmp_path, manifest())
    assert zerotune("run", file) == (
        f"cwe: finished already, there is nothing to do; its output is {folder.output.as_uri()}\n"
    )
    assert sorted(home.path.rglob("*")) == before
    changed = zerotune("run", _write(tmp_path, manifest(runPolicy={"maxRestarts": 7})))
    assert changed.endswith(f"{folder.output.as_uri()}; what has changed in its file since has no effect\n")
    with pytest.raises(ConfigurationError, match=r"training\.maxSteps was None, is 5"):
        zerotune("run", _write(tmp_path, manifest(training={"globalBatchSize": 4, "maxSteps": 5})))


def test_a_finished_job_whose_output_is_complete_no_more_says_that_it_runs_again(
    zerotune: Callable[..., str],
    home: Home,
    manifest: Callable[..., dict[str, Any]],
    job: Callable[..., Job],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = finish(home, job())
    (folder.output / "model.safetensors").unlink()
    with pytest.raises(InputMissingError, match=r"/data/a\.jsonl is not there"):
        zerotune("run", _write(tmp_path, manifest()))
    said = capsys.readouterr().out
    assert f"cwe: finished already, but {folder.output.as_uri()} is no longer complete: its {MANIFEST_NAME}, or" in said


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "data.train.uris: /data/a.jsonl is not there"),
        ({"runPolicy": {"suspend": True}}, "cwe: runPolicy.suspend is true"),
        ({"model": {"uri": "file:///nowhere"}}, "/nowhere/config.json is not there"),
        ({"model": {"fromFineTuneJob": "base"}}, "model.fromFineTuneJob: 'base' is no FineTuneJob"),
        ({"topology": {"nodes": 300}}, "topology.nodes is 300, but the local backend has 254 addresses"),
        ({"training": {"globalBatchSize": 3}, "topology": {"nodes": 2}}, "globalBatchSize"),
    ],
)
def test_what_cannot_run_is_rejected_and_leaves_no_job(
    zerotune: Callable[..., str],
    home: Home,
    manifest: Callable[..., dict[str, Any]],
    tmp_path: Path,
    spec: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ZerotuneError) as rejected:
        zerotune("run", _write(tmp_path, manifest(**spec)))
    assert message in rejected.value.message
    assert rejected.value.hint
    assert home.jobs() == []


def test_a_name_is_for_a_file_with_one_job(
    zerotune: Callable[..., str],
    home: Home,
    manifest: Callable[..., dict[str, Any]],
    job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    finish(home, job("other"))
    assert zerotune("run", _write(tmp_path, manifest()), "--name", "other").startswith("other: finished already")
    with pytest.raises(ConfigurationError, match="this one has 2"):
        zerotune("run", _write(tmp_path, manifest(), manifest("two")), "--name", "third")


def _write(folder: Path, *manifests: dict[str, Any]) -> str:
    path = folder / "jobs.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    return str(path)


def test_a_log_gets_a_line_for_each_phase_and_no_flood(
    home: Home, job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    view = PlainView("cwe")
    view.planned(plan_here(job(topology={"nodes": 2}), home.job("FineTuneJob", "cwe"), home, 0), 0)
    for phase in ("data", "training", "training", "saving", "training"):
        rank = RankProgress(rank=0, phase=phase, heartbeat_age_seconds=0, step_age_seconds=0)  # type: ignore[arg-type]
        node = NodeProgress(job="cwe", attempt=0, host="127.0.0.1", ranks=[rank])
        view.observed(RUNNING, Observation(0, (NodeObservation("127.0.0.1", "running", progress=node),)))
    assert capsys.readouterr().out.splitlines() == [
        "cwe: attempt 0: 2 nodes, 2 ranks, batch 4 = 2 x 1 accumulated x 2 ranks, ZeRO 0",
        "cwe: data  3/9  loss 2.5  1234 tokens/s  1m1s to go",
        "cwe: training  3/9  loss 2.5  1234 tokens/s  1m1s to go",
        "cwe: saving  3/9  loss 2.5  1234 tokens/s  1m1s to go",
    ]
