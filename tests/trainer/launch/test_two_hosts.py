"""Two launchers, as two hosts on loopback addresses, that really train."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

HOSTS = {"127.0.0.1": 1, "127.0.0.2": 1}
_SECONDS_TO_START = 200


@pytest.fixture
def job(make_job: Callable, model_folder: Path, tmp_path: Path):
    """A job that trains for longer than a test wants to wait."""
    (tmp_path / "data.jsonl").write_text("".join(f'{{"text": "record {number} "}}\n' for number in range(200)))
    job = make_job(HOSTS)
    job.config["model"] = {"uri": f"file://{model_folder}"}
    job.config["data"] = {"train": {"uris": [f"file://{tmp_path / 'data.jsonl'}"]}, "maxLength": 32}
    job.config["training"] = {"perDeviceTrainBatchSize": 2, "gradientAccumulationSteps": 1, "maxSteps": 100_000}
    job.config["evaluation"] = {"evalStrategy": "no"}
    return job


def _train(nodes) -> None:
    for node in nodes:
        node.until(lambda progress: progress.ranks[0].phase == "training", _SECONDS_TO_START)
        node.until(lambda progress: progress.ranks[0].step > 2)


def test_a_job_stopped_on_one_host_is_finished_by_the_next_attempt(job) -> None:
    first, second = job.start_real()
    _train([first, second])
    _describes_itself(first, second)
    second.process.terminate()
    assert (first.end(), second.end()) == (143, 143), "all ranks save at the step at which one was asked to stop"
    assert "with checkpoint-" in first.failure.message

    job.config["training"]["maxSteps"] = int(first.failure.step or 0) + 5
    assert [node.end(_SECONDS_TO_START) for node in job.start_real()] == [0, 0]
    last, other = job.nodes[2:]
    assert (last.failure, other.failure, other.completion) == (None, None, None)
    completion = last.completion
    assert (completion.job_uid, completion.uri) == ("uid", job.config["output"]["uri"])
    assert completion.progress.step == completion.progress.total == job.config["training"]["maxSteps"]
    assert completion.progress.loss is not None


def _describes_itself(first, second) -> None:
    topology = first.until(lambda progress: progress.topology is not None).topology
    assert [(entry.rank, entry.host, entry.local_rank) for entry in topology] == [
        (0, "127.0.0.1", 0),
        (1, "127.0.0.2", 0),
    ]
    assert [entry.pid for entry in topology] == [first.rank_pid(0), second.rank_pid(1)]
    assert 'zerotune_loss{attempt="0",host="127.0.0.1",job="job"}' in first.get("/metrics")
    for node in (first, second):
        _imports_once(node)
        _reports_environment(node)


def _imports_once(node) -> None:
    """The forkserver imports torch, and starts no thread that a fork would lose; the launcher does without."""
    rank = psutil.Process(node.progress().ranks[0].pid)
    importer = rank.parent()
    assert _maps_torch(importer)
    assert not _maps_torch(node.process)
    # Arrow's allocator has a thread, which it takes care of on a fork.
    names = {path.read_text().strip() for path in Path(f"/proc/{importer.pid}/task").glob("*/comm")}
    assert len(names - {"jemalloc_bg_thd"}) == 1


def _maps_torch(process) -> bool:
    return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()


def _reports_environment(node) -> None:
    [line] = [line for line in node.log.splitlines() if " environment {" in line]
    environment = json.loads(line[line.index("{") :])
    assert environment["host"] == node.host
    assert isinstance(environment["deepspeedOps"], list)
    assert environment["gpus"] == []
    assert all(name.startswith(("sm_", "compute_")) for name in environment["torchArchitectures"])
    assert (environment["nccl"] is None) == (environment["cuda"] is None)


def test_kill_9_of_a_rank(job) -> None:
    first, second = job.start_real()
    _train([first, second])
    os.kill(second.rank_pid(1), signal.SIGKILL)
    assert (first.end(), second.end()) == (69, 137)
    assert (first.failure.failure_class, first.failure.rank) == ("PeerLost", 0)
    assert (second.failure.failure_class, second.failure.rank) == ("Killed", 1)
    assert "127.0.0.2" in first.failure.message, "the host that failed is named"
    assert first.left_behind() == second.left_behind() == []


def test_kill_9_of_a_launcher(job) -> None:
    first, second = job.start_real()
    _train([first, second])
    second.process.kill()
    assert first.end() == 69
    assert "the launcher of 127.0.0.2 does not answer" in first.failure.message
    assert first.left_behind() == second.left_behind() == []


def test_a_stopped_rank_hangs_both_hosts_and_is_named_by_both(job) -> None:
    job.config["launch"]["hangTimeoutSeconds"] = 8
    first, second = job.start_real()
    _train([first, second])
    os.kill(second.rank_pid(1), signal.SIGSTOP)
    assert (first.end(), second.end()) == (69, 72), "the one that waits follows from the one that is stopped"
    assert (second.failure.failure_class, second.failure.rank) == ("Hang", 1)
    assert "127.0.0.2" in first.failure.message
    assert first.left_behind() == second.left_behind() == []
