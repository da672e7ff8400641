"""Ranks that meet over a real store, and others that come to it. Each rank is a thread: a store is all they share."""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from zerotune_trainer.config import RENDEZVOUS_FILE, Launch
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import AuthenticationError, ConfigurationError, InputMissingError, PeerLostError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.rendezvous import rendezvous

HOSTS = "127.0.0.2 slots=1\n127.0.0.3 slots=1\n"
PATIENCE_SECONDS = 20


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    with socket.create_server(("127.0.0.2", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def come(tmp_path: Path, port: int) -> Iterator[Callable[..., Future[Any]]]:
    """Start a rank, and give what its rendezvous returns or raises."""
    pool, default = ThreadPoolExecutor(4), port

    def start(
        rank: int,
        secret: str | None = "ours",
        hosts: str = HOSTS,
        seconds: int = PATIENCE_SECONDS,
        port: int = default,
    ) -> Future[Any]:
        folder = tmp_path / f"{rank}-{secret}"
        folder.mkdir(exist_ok=True)
        if secret is not None:
            (folder / RENDEZVOUS_FILE).write_text(secret)
        hostfile = Hostfile.parse(hosts)
        host = hostfile.host_of_rank(rank)
        report: Any = None
        context = RankContext(folder, hostfile, host, rank - host.first_rank, report, threading.Event())
        launch = Launch(cache_dir="/nowhere", master_port=port, rendezvous_timeout_seconds=seconds)
        return pool.submit(rendezvous, context, launch)

    yield start
    pool.shutdown()


def connect(port: int) -> Any:
    """The store as a stranger reaches it."""
    return dist.TCPStore("127.0.0.2", port, is_master=False, timeout=timedelta(seconds=PATIENCE_SECONDS))  # type: ignore[attr-defined]


def test_ranks_of_one_attempt_share_a_store_under_a_name_of_their_own(
    come: Callable[..., Future[Any]], port: int
) -> None:
    first, second = (future.result(60) for future in (come(0), come(1)))
    second.set("learning", "rate")
    assert first.get("learning") == b"rate"
    assert not connect(port).check(["learning"])


def test_a_process_without_the_secret_gets_nothing_and_is_named(come: Callable[..., Future[Any]]) -> None:
    first, stranger = come(0), come(1, "guessed")
    with pytest.raises(
        AuthenticationError, match=r"as rank 1 on 127.0.0.3 does not know the attempt's secret"
    ) as found:
        first.result(60)
    assert "NetworkPolicies" in found.value.hint
    with pytest.raises(AuthenticationError, match=r"as rank 0 on 127.0.0.2 does not know"):
        stranger.result(60)


def test_a_pickle_in_the_place_of_a_hello_is_refused(
    come: Callable[..., Future[Any]], port: int, tmp_path: Path
) -> None:
    first = come(0)
    connect(port).set("hello of rank 1", pickle.dumps(_Touches(tmp_path / "touched")))
    with pytest.raises(AuthenticationError, match=r"rank 1 on 127.0.0.3 shows something else"):
        first.result(60)
    assert not (tmp_path / "touched").exists()


def test_a_hello_that_was_overheard_before_proves_nothing(come: Callable[..., Future[Any]], port: int) -> None:
    overheard = [come(0), come(1)]
    assert all(future.result(60) for future in overheard)
    hello = connect(port).get("hello of rank 1")
    again = free_port()
    first = come(0, port=again)
    store = connect(again)
    store.set("hello of rank 1", hello)
    store.set("proof of rank 1", "a guess")
    with pytest.raises(AuthenticationError, match=r"rank 1 on 127.0.0.3 proves nothing about what this rank was shown"):
        first.result(60)


def test_the_store_is_reached_at_its_own_loopback_address_alone(come: Callable[..., Future[Any]], port: int) -> None:
    first = come(0)
    connect(port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.3", port), 5)
    come(1).result(60)
    first.result(60)


def test_a_rank_that_does_not_come_is_named(come: Callable[..., Future[Any]]) -> None:
    with pytest.raises(PeerLostError, match=r"^rank 1 on 127.0.0.3 did not come to 127.0.0.2:\d+ within 2 s\n"):
        come(0, seconds=2).result(60)


def test_hosts_with_other_hostfiles_do_not_meet(come: Callable[..., Future[Any]]) -> None:
    first, second = come(0, seconds=5), come(1, hosts="127.0.0.2 slots=1\n127.0.0.4 slots=1\n")
    with pytest.raises(ConfigurationError, match=r"rank 1 on 127.0.0.4 has the hostfile"):
        second.result(60)
    with pytest.raises(PeerLostError, match=r"^rank 1 on 127.0.0.3 did not come"):
        first.result(60)


def test_without_a_secret_several_ranks_do_not_meet(come: Callable[..., Future[Any]]) -> None:
    with pytest.raises(InputMissingError, match=r"rendezvous-secret is not there, or empty"):
        come(0, None).result(60)


def test_a_job_of_one_rank_opens_no_port(come: Callable[..., Future[Any]], port: int) -> None:
    assert come(0, None, hosts="127.0.0.2 slots=1\n").result(60) is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 5)


class _Touches:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)
