"""What a launcher resolves, listens on and serves, without ranks."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from zerotune_trainer.addresses import (
    address_of,
    listen,
    listening_address,
)
from zerotune_trainer.config import Launch
from zerotune_trainer.errors import ConfigurationError, Failure, NameResolutionError, TemporaryError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.identity import this_host
from zerotune_trainer.launching.metrics import render_metrics
from zerotune_trainer.launching.names import wait_for_names
from zerotune_trainer.launching.peers import silent_hosts, suspects
from zerotune_trainer.launching.serve import ProgressServer
from zerotune_trainer.launching.termination import TerminationLog
from zerotune_trainer.progress import NodeProgress, Progress, RankProgress

pytestmark = pytest.mark.slow

NODE = NodeProgress(
    job="cwe",
    attempt=2,
    host="127.0.0.1",
    ranks=[
        RankProgress(rank=0, pid=10, phase="training", step=7, heartbeat_age_seconds=0.5, step_age_seconds=1.5),
        RankProgress(rank=1, pid=11, phase="training", step=6, heartbeat_age_seconds=9.0, step_age_seconds=9.0),
    ],
    progress=Progress(step=7, total=20, loss=2.5, tokens_per_second=1234.0),
)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_this_host_by_name_variable_or_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    own = socket.gethostname()
    hostfile = Hostfile.parse(f"a.job.svc slots=2\nb slots=2\n{own}.svc slots=1\n")
    assert this_host(hostfile, "b").ranks == range(2, 4)
    assert this_host(hostfile, "a").name == "a.job.svc"
    assert this_host(hostfile).name == f"{own}.svc"
    monkeypatch.setenv("ZEROTUNE_HOST", "b")
    assert this_host(hostfile).name == "b"
    with pytest.raises(ConfigurationError, match=r"this host is 'c', but the hostfile names a.job.svc, b, "):
        this_host(hostfile, "c")


def launch(**settings: int) -> Launch:
    return Launch(cache_dir="/nowhere", **settings)


def test_names_that_resolve_are_not_waited_for() -> None:
    reported: list[Failure | None] = []
    wait_for_names(["127.0.0.1", "localhost"], launch(), reported.append)
    assert reported == [None]


def test_names_that_do_not_resolve_are_named_up_to_eight() -> None:
    names = [f"n{number}.invalid" for number in range(10)]
    reported: list[Failure | None] = []
    with pytest.raises(NameResolutionError, match=r"^10 names .* resolve: n0.invalid, .*n7.invalid and 2 more; nor "):
        wait_for_names(["localhost", *names], launch(hang_timeout_seconds=1), reported.append)
    assert {report.failure_class for report in reported} == {"NameResolution"}


def test_pods_without_an_address_are_waited_for_as_long_as_their_domain_resolves() -> None:
    began = time.monotonic()
    with pytest.raises(NameResolutionError) as caught:
        wait_for_names(
            ["a" * 64 + ".localhost"],  # No label is that long.
            launch(hang_timeout_seconds=1, name_resolution_timeout_seconds=3),
            lambda _: None,
        )
    assert time.monotonic() - began >= 3
    assert "so DNS works" in caught.value.hint


def test_loopback_hosts_listen_on_their_own_address() -> None:
    assert listening_address("127.0.0.2") == "127.0.0.2"
    assert listening_address("192.0.2.7") == "0.0.0.0"
    assert listening_address("2001:db8::7") == "::"
    assert listening_address("::1") == "::1"


@pytest.mark.parametrize("name", ["127.0.0.2", "::1", "localhost"])
def test_an_address_is_found_whatever_its_family(name: str) -> None:
    assert address_of(name).is_loopback


def test_a_port_in_use_is_named_with_its_purpose_and_a_remedy(port: int) -> None:
    listen("127.0.0.1", port, "for the rendezvous").close()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(TemporaryError) as raised:
        listen("127.0.0.1", port, "for the rendezvous")
    assert (
        raised.value.message == f"port {port}, for the rendezvous, cannot be used on this host: Address already in use"
    )
    assert raised.value.hint == (
        f"stop what uses it (`ss -ltnp sport = :{port}`), or run again: `zerotune run` chooses another port each time"
    )


def test_what_is_served(port: int) -> None:
    with ProgressServer("127.0.0.2", port, lambda: NODE):
        url = f"http://127.0.0.2:{port}"
        with urllib.request.urlopen(f"{url}/progress") as answer:
            assert answer.headers["Content-Type"] == "application/json"
            assert NodeProgress.model_validate_json(answer.read()) == NODE
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            assert answer.read() == render_metrics(NODE)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/else")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)


def test_two_hosts_of_one_machine_serve_on_one_port(port: int) -> None:
    rejected = pytest.raises(TemporaryError, match=f"port {port}, for /progress and /metrics, cannot be used")
    with ProgressServer("127.0.0.1", port, lambda: NODE), ProgressServer("127.0.0.2", port, lambda: NODE), rejected:
        ProgressServer("127.0.0.1", port, lambda: NODE)


def test_metrics() -> None:
    families = text_string_to_metric_families(render_metrics(NODE).decode())
    samples = {(sample.name, sample.labels.get("rank")): sample for family in families for sample in family.samples}
    assert {key: sample.value for key, sample in samples.items()} == {
        ("zerotune_step", None): 7,
        ("zerotune_total", None): 20,
        ("zerotune_loss", None): 2.5,
        ("zerotune_tokens_per_second", None): 1234,
        ("zerotune_rank_step", "0"): 7,
        ("zerotune_rank_step", "1"): 6,
        ("zerotune_rank_heartbeat_age_seconds", "0"): 0.5,
        ("zerotune_rank_heartbeat_age_seconds", "1"): 9,
        ("zerotune_rank_step_age_seconds", "0"): 1.5,
        ("zerotune_rank_step_age_seconds", "1"): 9,
        ("zerotune_rank_phase", "0"): 1,
        ("zerotune_rank_phase", "1"): 1,
    }
    assert samples["zerotune_rank_phase", "1"].labels == {
        "job": "cwe",
        "attempt": "2",
        "host": "127.0.0.1",
        "rank": "1",
        "phase": "training",
    }


def test_metrics_before_the_first_step() -> None:
    bare = NodeProgress(job="cwe", attempt=0, host="a", ranks=[])
    assert b"zerotune_step" not in render_metrics(bare)


def test_suspects_are_asked_of_every_other_host(port: int) -> None:
    hostfile = Hostfile.parse("127.0.0.1 slots=2\n127.0.0.2 slots=1\n127.0.0.3 slots=1\n127.0.0.4 slots=1\n")
    failure = Failure(failure_class="Data", message="a.jsonl:3: not JSON", exit_code=65)
    failed = NodeProgress(job="cwe", attempt=2, host="127.0.0.2", ranks=[], failure=failure)
    with ProgressServer("127.0.0.1", port, lambda: NODE), ProgressServer("127.0.0.2", port, lambda: failed):
        assert suspects(hostfile, hostfile.host("127.0.0.4"), port) == [
            "127.0.0.2 failed: a.jsonl:3: not JSON",
            "rank 1 on 127.0.0.1 has been silent for 9s",
            "the launcher of 127.0.0.3 does not answer",
        ]
        assert silent_hosts(hostfile, hostfile.host("127.0.0.4"), port) == {"127.0.0.3"}


def test_a_termination_log_is_emptied_first_and_holds_the_failure(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("of an earlier attempt")
    log = TerminationLog(path)
    assert path.read_text() == ""
    log.write(Failure(failure_class="Data", message="m" * 9000, rank=3, host="a", step=7, exit_code=65))
    assert len(path.read_bytes()) <= 4096
    assert json.loads(path.read_text()) | {"message": ""} == {
        "class": "Data",
        "message": "",
        "hint": "",
        "rank": 3,
        "host": "a",
        "step": 7,
        "exitCode": 65,
    }


def test_a_termination_log_that_vanishes_does_not_hide_the_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    log = TerminationLog(folder / "log")
    (folder / "log").unlink()
    folder.rmdir()
    log.write(Failure(failure_class="Data", message="m", exit_code=65))
    assert f"the termination log {folder / 'log'} cannot be written" in caplog.text


def test_a_termination_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written: Is a directory"):
        TerminationLog(tmp_path)


def test_connections_are_bounded_by_address_and_others_are_served(port: int) -> None:
    def ask(source: str) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10, (source, 0)) as asking:
            asking.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return asking.recv(100)

    with ProgressServer("127.0.0.1", port, lambda: NODE), ExitStack() as idle:
        for _ in range(16):
            idle.enter_context(socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.9", 0)))
        assert ask("127.0.0.8").startswith(b"HTTP/1.0 200")
        rejected = idle.enter_context(socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.9", 0)))
        assert rejected.recv(100) == b"", "it is closed at once"
        idle.close()
        deadline = time.monotonic() + 10
        while not (answered := _answers(ask)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answered


def _answers(ask: Callable[[str], bytes]) -> bool:
    try:
        return ask("127.0.0.9").startswith(b"HTTP/1.0 200")
    except ConnectionResetError:
        return False
