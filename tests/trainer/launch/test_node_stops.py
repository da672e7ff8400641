"""SIGTERM, SIGINT and the end of standard input, in every phase of a launcher."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from zerotune_trainer.errors import Failure, StoppedError
from zerotune_trainer.launching.node import run_node
from zerotune_trainer.launching.stopping import StopRequest

pytestmark = pytest.mark.slow


def test_while_names_are_waited_for(make_job: Callable) -> None:
    job = make_job({"127.0.0.1": 1, "never.invalid": 1})
    job.write()
    node = job.launch("127.0.0.1")
    node.until_logged("does not resolve: never.invalid")
    _stops_within(3, node, signal.SIGTERM)
    assert node.failure.message == "stopped on request before the ranks ran: there was nothing to save"


def test_a_stop_that_came_before_the_launcher_was_ready_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would take a folder of this process along, whose launcher it is not.
    monkeypatch.setattr("zerotune_trainer.launching.node.remove_socket", lambda: None)
    stop = StopRequest()
    stop.event.set()
    assert run_node(tmp_path, "127.0.0.1", tmp_path / "message", stop=stop) == StoppedError.exit_code
    failure = Failure.model_validate_json((tmp_path / "message").read_text())
    assert failure.message == "stopped on request before the ranks ran: there was nothing to save"


def test_while_torch_is_imported(make_job: Callable) -> None:
    [node] = make_job().start_real()
    node.until_logged("host 127.0.0.1 of 1")
    time.sleep(0.5)
    node.note_processes()
    _stops_within(3, node, signal.SIGTERM)
    assert node.left_behind() == []


def test_a_stop_while_code_that_reads_no_event_prepares_data(make_job: Callable) -> None:
    [node] = make_job({"127.0.0.1": 2}).start_toys("data")
    node.until(lambda progress: all(rank.phase == "data" for rank in progress.ranks))
    _stops_within(5, node, signal.SIGTERM)
    assert node.failure.message == "stopped on request before the first step: nothing to save"
    assert node.left_behind() == []


def test_while_a_rank_waits_in_c_code(make_job: Callable) -> None:
    [node] = make_job().start_toys("in_c_code")
    node.until(lambda progress: progress.ranks[0].phase == "rendezvous")
    _stops_within(5, node, signal.SIGTERM)


def test_a_rank_may_end_its_workers_without_being_stopped_itself(make_job: Callable) -> None:
    [node] = make_job().start_toys("workers")
    assert node.end() == 0, node.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_it_trains_the_ranks_save_first(make_job: Callable, number: signal.Signals) -> None:
    [node] = make_job({"127.0.0.1": 2}).start_toys("steps_until_stopped")
    node.until(lambda progress: all(rank.step > 3 for rank in progress.ranks))
    _stops_within(10, node, number)
    assert node.failure.message.startswith("stopped on request after step")
    assert all(f"rank {rank} has saved step" in node.log for rank in (0, 1)), node.log


def test_a_rank_that_is_stopped_alone_stops_the_others(make_job: Callable) -> None:
    [node] = make_job({"127.0.0.1": 2}).start_toys("data")
    node.until(lambda progress: all(rank.phase == "data" for rank in progress.ranks))
    os.kill(node.rank_pid(0), signal.SIGTERM)
    assert node.end() == 143


def test_the_end_of_input_stops_it_where_asked(make_job: Callable) -> None:
    job = make_job({"127.0.0.1": 1, "never.invalid": 1})
    job.write()
    node = job.launch("127.0.0.1", "--stop-on-eof")
    node.until_logged("does not resolve: never.invalid")
    assert node.process.poll() is None
    node.process.stdin.close()
    assert node.end() == 143


def _stops_within(seconds: float, node, number: signal.Signals) -> None:
    node.process.send_signal(number)
    assert node.end(seconds) == 143
    assert node.failure.failure_class == "Stopped"


def test_while_the_ranks_wait_for_a_host_that_vanished(make_job: Callable) -> None:
    """Its processes are stopped: the sockets stay open, as those of a machine without power do."""
    first, second = make_job({"127.0.0.1": 1, "127.0.0.2": 1}).start_toys("waits")
    for node in (first, second):
        node.until(lambda progress: progress.ranks[0].step == 7)
    os.kill(second.rank_pid(1), signal.SIGSTOP)
    second.process.send_signal(signal.SIGSTOP)
    first.process.send_signal(signal.SIGTERM)
    assert first.end(40) == 69, "long before it would count as hung"
    assert first.failure.failure_class == "PeerLost"
    assert first.failure.message.startswith("rank 0 has not got on for ")
    assert "the launcher of 127.0.0.2 does not answer" in first.failure.message
    assert first.left_behind() == []


def test_in_a_step_that_takes_long_while_all_hosts_answer(make_job: Callable) -> None:
    first, second = make_job({"127.0.0.1": 1, "127.0.0.2": 1}, hangTimeoutSeconds=30).start_toys("stops_late")
    for node in (first, second):
        node.until(lambda progress: progress.ranks[0].step == 7)
    _stops_within(20, first, signal.SIGTERM)
    assert first.failure.message == "stopped on request after step 8"


def test_a_rank_that_nccl_ends_meanwhile_has_stopped(make_job: Callable) -> None:
    job = make_job({"127.0.0.1": 2}, accelerator="cuda")
    [node] = job.start_toys("aborts_in_a_stop")
    node.until(lambda progress: all(rank.step == 7 for rank in progress.ranks))
    _stops_within(10, node, signal.SIGTERM)
    assert node.failure.message.startswith("stopped on request, as its peers had before: rank ")
