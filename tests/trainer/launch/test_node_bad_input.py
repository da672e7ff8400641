"""Folders, names, ports and logs that are wrong: the code, and a message with the value, the rule and the remedy."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_host_that_the_hostfile_does_not_name(make_job: Callable) -> None:
    job = make_job({"127.0.0.1": 1, "127.0.0.2": 1})
    job.write()
    node = job.launch("127.0.0.9")
    assert node.end() == 64
    assert node.failure.message == "this host is '127.0.0.9', but the hostfile names 127.0.0.1, 127.0.0.2"
    assert node.failure.hint


def test_a_hostfile_with_a_bad_line(make_job: Callable) -> None:
    job = make_job()
    job.write()
    (job.folder / "hostfile").write_text("127.0.0.1 slots=1\nworker-1 slot=2\n")
    node = job.launch("127.0.0.1")
    assert node.end() == 64
    assert node.failure.message == "hostfile:2: 'worker-1 slot=2' is not NAME slots=N"


@pytest.mark.parametrize("name", ["config.json", "hostfile"])
def test_a_missing_file(make_job: Callable, name: str) -> None:
    job = make_job()
    job.write()
    (job.folder / name).unlink()
    node = job.launch("127.0.0.1")
    assert node.end() == 66
    assert node.failure.message == f"{job.folder / name} is not there"


def test_a_name_that_never_resolves_is_reported_then_fails(make_job: Callable) -> None:
    job = make_job({"127.0.0.1": 1, "gone-1.invalid": 1, "gone-2.invalid": 1}, hangTimeoutSeconds=6)
    job.config["launch"]["nameResolutionTimeoutSeconds"] = 604800
    job.write()
    node = job.start_toy("127.0.0.1")
    waiting = node.until_served(lambda found: found.waiting_for is not None)
    assert (waiting.ranks, waiting.failure) == ([], None)
    assert waiting.waiting_for.failure_class == "NameResolution"
    assert node.end(20) == 68
    assert (node.failure.message, node.failure.hint) == (waiting.waiting_for.message, waiting.waiting_for.hint)
    assert node.failure.message == (
        "2 names of the hostfile do not resolve: gone-1.invalid, gone-2.invalid; nor does their domain invalid"
    )
    for word in ("DNS", "NetworkPolicy", "headless Service", "publishNotReadyAddresses"):
        assert word in node.failure.hint


def test_a_host_whose_own_name_does_not_resolve_serves_its_progress(make_job: Callable) -> None:
    job = make_job({"gone-1.invalid": 1, "gone-2.invalid": 1}, hangTimeoutSeconds=6)
    job.write()
    node = job.start_toy("gone-1.invalid")
    node.host = "127.0.0.1"
    assert node.until_served(lambda found: found.waiting_for is not None).host == "gone-1.invalid"
    assert node.end(20) == 68


@pytest.mark.parametrize(("field", "purpose"), [("masterPort", "for the rendezvous"), ("progressPort", "/progress")])
def test_a_port_in_use(make_job: Callable, field: str, purpose: str) -> None:
    job = make_job()
    with socket.create_server(("127.0.0.1", job.config["launch"][field])) as server:
        [node] = job.start_toys("step")
        assert node.end() == 75
        assert f"port {server.getsockname()[1]}" in node.failure.message
    assert purpose in node.failure.message
    assert "or run again" in node.failure.hint


def test_the_rendezvous_port_matters_on_the_first_host_only(make_job: Callable) -> None:
    job = make_job({"127.0.0.1": 1, "127.0.0.2": 1})
    with socket.create_server(("127.0.0.1", job.config["launch"]["masterPort"])):
        first, second = job.start_toys("step")
        assert (first.end(), second.end()) == (75, 0)


def test_an_unwritable_termination_log_is_found_before_anything_is_done(make_job: Callable, tmp_path: Path) -> None:
    job = make_job()
    job.write()
    node = job.launch("127.0.0.1", "--termination-log", str(tmp_path / "nowhere" / "log"))
    assert node.end() == 64
    assert f"the termination log {tmp_path / 'nowhere' / 'log'} cannot be written: No such file" in node.log
