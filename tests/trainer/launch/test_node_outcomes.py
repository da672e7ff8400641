"""What a launcher makes of its ranks' ends, with ranks that are real processes but train nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import Completion

pytestmark = pytest.mark.slow

COMPLETION = {
    "jobUid": "uid",
    "configDigest": "0" * 64,
    "uri": "file:///results/\u00e9",
    "files": 2,
    "bytes": 300,
    "progress": {"step": 3, "total": 3, "loss": 0.25, "evalLoss": 0.5},
}
"""What rank 0 of the toys says."""


def test_success_is_exit_code_zero_and_a_completion_where_rank_0_is(make_job: Callable) -> None:
    first, second = make_job({"127.0.0.1": 2, "127.0.0.2": 1}).start_toys("step")
    assert (first.end(), second.end()) == (0, 0)
    progress = COMPLETION["progress"] | {"firstStep": 1}
    assert json.loads(first.termination_log.read_text()) == {"completion": COMPLETION | {"progress": progress}}
    assert second.termination_log.read_text() == ""
    assert first.left_behind() == second.left_behind() == []
    assert first.temporary_files == second.temporary_files == []


def test_a_failure_after_the_completion_is_a_failure(make_job: Callable) -> None:
    [node] = make_job({"127.0.0.1": 2}).start_toys("completes_then_fails")
    progress = node.until(lambda progress: progress.completion is not None)
    assert progress.completion == Completion.model_validate(COMPLETION)
    assert progress.progress == progress.completion.progress
    assert node.end() == 65
    assert node.completion is None
    assert node.failure.message == "found late"


def test_the_root_cause_is_the_failure_that_others_follow_from(make_job: Callable) -> None:
    [node] = make_job({"127.0.0.1": 3}).start_toys("fails")
    assert node.end() == 65
    assert node.temporary_files == []
    assert node.failure == Failure(
        failure_class="Data",
        message="part-1.jsonl:3: not JSON",
        hint="mend the line",
        rank=1,
        host="127.0.0.1",
        step=5,
        exit_code=65,
    )
    assert "rank 2 ended with exit code -9" in node.log, "who does not notice is killed"
    assert node.left_behind() == []


def test_a_rank_that_leaves_early_with_zero_is_no_success(make_job: Callable) -> None:
    [node] = make_job().start_toys("leaves")
    assert node.end() == 70
    assert node.failure.message == "rank 0 ended before its work was done"


def test_kill_9_of_a_rank_is_named_with_its_signal(make_job: Callable) -> None:
    [node] = make_job({"127.0.0.1": 2}).start_toys("steps_until_stopped")
    node.until(lambda progress: all(rank.step > 3 for rank in progress.ranks))
    os.kill(node.rank_pid(1), signal.SIGKILL)
    assert node.end() == 137
    assert (node.failure.failure_class, node.failure.rank) == ("Killed", 1)
    assert "rank 1 was killed by SIGKILL" in node.failure.message
    assert node.failure.step > 3
    assert node.left_behind() == []


def test_a_rank_that_dies_of_a_crash_is_our_bug(make_job: Callable) -> None:
    [node] = make_job().start_toys("waits")
    os.kill(node.rank_pid(0), signal.SIGSEGV)
    assert node.end() == 70
    assert node.failure.message == "rank 0 died of SIGSEGV"


def test_a_rank_that_nccl_ends_is_explained_by_what_other_hosts_know(make_job: Callable) -> None:
    job = make_job({"127.0.0.1": 1, "127.0.0.2": 1}, accelerator="cuda")
    job.write()
    (job.folder / "toy").write_text("dies_of_abort")
    node = job.start_toy("127.0.0.1")
    assert node.end() == 69
    assert node.failure.message == (
        "rank 0 died of SIGABRT, as it does when NCCL loses another rank; the launcher of 127.0.0.2 does not answer"
    )


@pytest.mark.parametrize(("hosts", "accelerator"), [({"127.0.0.1": 1}, "cuda"), ({"127.0.0.1": 2}, "cpu")])
def test_a_rank_that_aborts_without_nccl_is_our_bug(
    make_job: Callable, hosts: dict[str, int], accelerator: str
) -> None:
    [node] = make_job(hosts, accelerator=accelerator).start_toys("dies_of_abort")
    assert node.end() == 70
    assert "died of SIGABRT" in node.failure.message


def test_kill_9_of_a_launcher_leaves_no_rank(make_job: Callable) -> None:
    [node] = make_job({"127.0.0.1": 2}).start_toys("data")
    node.until(lambda progress: all(rank.phase == "data" for rank in progress.ranks))
    node.note_processes()
    assert sum(process.name() == "sleep" for process in node.seen.values()) == 2
    node.process.kill()
    assert node.left_behind() == []


def test_kill_9_of_the_process_that_imports(make_job: Callable) -> None:
    [node] = make_job().start_real()
    importer = _importer(node)
    importer.suspend()
    # Had it died before a rank was asked of it, multiprocessing would have started another.
    node.until_logged("starting ranks 0")
    time.sleep(1)
    importer.kill()
    assert node.end() == 70
    assert "the process that starts the ranks died while it imported" in node.failure.message
    assert node.left_behind() == []


def test_kill_9_of_the_process_that_forks_ranks(make_job: Callable) -> None:
    [node] = make_job().start_toys("waits")
    node.until(lambda progress: progress.ranks[0].step == 7)
    psutil.Process(node.rank_pid(0)).parent().kill()
    assert node.end() == 70
    assert node.left_behind() == []


def _importer(node) -> psutil.Process:
    while True:
        node.note_processes()
        for process in node.seen.values():
            if "multiprocessing.forkserver" in " ".join(process.cmdline()):
                return process


def test_a_stopped_rank_is_named_as_what_hangs(make_job: Callable) -> None:
    [node] = make_job({"127.0.0.1": 2}, hangTimeoutSeconds=12).start_toys("steps_until_stopped")
    node.until(lambda progress: all(rank.step > 3 for rank in progress.ranks))
    os.kill(node.rank_pid(1), signal.SIGSTOP)
    assert node.end() == 72
    assert (node.failure.failure_class, node.failure.rank) == ("Hang", 1)
    assert "stopped) has been silent for" in node.failure.message
    assert node.left_behind() == []


def test_a_rank_that_beats_but_makes_no_step_hangs_too(make_job: Callable) -> None:
    [node] = make_job(hangTimeoutSeconds=6).start_toys("waits")
    assert node.end() == 72
    assert node.failure.message.startswith("rank 0 has not got on for 6s in phase training")
    assert node.failure.step == 7


def test_a_long_data_phase_is_no_hang(make_job: Callable) -> None:
    [node] = make_job(hangTimeoutSeconds=6).start_toys("data")
    progress = node.until(lambda progress: progress.ranks[0].step_age_seconds > 8)
    assert progress.failure is None
    assert progress.ranks[0].heartbeat_age_seconds < 2


def test_what_other_hosts_know_is_part_of_a_lost_peer(make_job: Callable) -> None:
    job = make_job({"127.0.0.1": 1, "127.0.0.2": 1, "127.0.0.3": 1})
    job.write()
    (job.folder / "toy").write_text("data")
    silent = job.start_toy("127.0.0.2")
    os.kill(silent.rank_pid(1), signal.SIGSTOP)
    silent.until(lambda progress: progress.ranks[0].heartbeat_age_seconds > 5)
    (job.folder / "toy").write_text("loses_peer")
    node = job.start_toy("127.0.0.1")
    assert node.end() == 69
    assert "rank 1 on 127.0.0.2 has been silent for" in node.failure.message
    assert "the launcher of 127.0.0.3 does not answer" in node.failure.message


def test_progress_and_metrics_are_served(make_job: Callable) -> None:
    [node] = make_job({"127.0.0.1": 2}).start_toys("steps_until_stopped")
    progress = node.until(lambda progress: all(rank.step > 3 for rank in progress.ranks))
    assert (progress.job, progress.attempt, progress.host) == ("job", 0, "127.0.0.1")
    assert [rank.phase for rank in progress.ranks] == ["training", "training"]
    assert all(rank.heartbeat_age_seconds < 2 and psutil.pid_exists(rank.pid or -1) for rank in progress.ranks)
    metrics = node.get("/metrics")
    assert 'zerotune_rank_phase{attempt="0",host="127.0.0.1",job="job",phase="training",rank="1"} 1.0' in metrics
    assert node.get("/healthz") == "ok\n"
