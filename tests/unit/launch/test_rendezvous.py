"""The rendezvous of ranks over a real store, and strangers that reach it. Each rank is a thread of this process."""

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

pytestmark = pytest.mark.slow

HOSTS = "127.0.0.2 slots=1\n127.0.0.3 slots=1\n"
PATIENCE_SECONDS = 20


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    with socket.create_server(("127.0.0.2", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def join(tmp_path: Path, port: int) -> Iterator[Callable[..., Future[Any]]]:
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
    join: Callable[..., Future[Any]], port: int
) -> None:
    first, second = (future.result(60) for future in (join(0), join(1)))
    second.set("learning", "rate")
    assert first.get("learning") == b"rate"
    assert not connect(port).check(["learning"])


def test_a_process_without_the_secret_gets_nothing_and_is_named(join: Callable[..., Future[Any]]) -> None:
    first, stranger = join(0), join(1, "guessed")
    with pytest.raises(
        AuthenticationError, match=r"as rank 1 on 127.0.0.3 does not know the attempt's secret"
    ) as found:
        first.result(60)
    assert "NetworkPolicies" in found.value.hint
    with pytest.raises(AuthenticationError, match=r"as rank 0 on 127.0.0.2 does not know"):
        stranger.result(60)


def test_a_pickle_in_the_place_of_a_hello_is_rejected(
    join: Callable[..., Future[Any]], port: int, tmp_path: Path
) -> None:
    first = join(0)
    connect(port).set("hello of rank 1", pickle.dumps(_Touches(tmp_path / "touched")))
    with pytest.raises(AuthenticationError, match=r"rank 1 on 127.0.0.3 shows something else"):
        first.result(60)
    assert not (tmp_path / "touched").exists()


def test_a_hello_that_was_overheard_before_proves_nothing(join: Callable[..., Future[Any]], port: int) -> None:
    overheard = [join(0), join(1)]
    assert all(future.result(60) for future in overheard)
    hello = connect(port).get("hello of rank 1")
    again = free_port()
    first = join(0, port=again)
    store = connect(again)
    store.set("hello of rank 1", hello)
    store.set("proof of rank 1", "a guess")
    with pytest.raises(AuthenticationError, match=r"rank 1 on 127.0.0.3 proves nothing about what this rank was shown"):
        first.result(60)


def test_the_store_is_reached_at_its_own_loopback_address_alone(join: Callable[..., Future[Any]], port: int) -> None:
    first = join(0)
    connect(port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.3", port), 5)
    join(1).result(60)
    first.result(60)


def test_a_rank_that_is_absent_is_named(join: Callable[..., Future[Any]]) -> None:
    with pytest.raises(
        PeerLostError, match=r"^rank 1 on 127.0.0.3 did not join the rendezvous at 127.0.0.2:\d+ within 2 s\n"
    ):
        join(0, seconds=2).result(60)


def test_hosts_with_other_hostfiles_are_rejected(join: Callable[..., Future[Any]]) -> None:
    first, second = join(0, seconds=5), join(1, hosts="127.0.0.2 slots=1\n127.0.0.4 slots=1\n")
    with pytest.raises(ConfigurationError, match=r"rank 1 on 127.0.0.4 has the hostfile"):
        second.result(60)
    with pytest.raises(PeerLostError, match=r"^rank 1 on 127.0.0.3 did not join the rendezvous"):
        first.result(60)


def test_several_ranks_need_a_secret(join: Callable[..., Future[Any]]) -> None:
    with pytest.raises(InputMissingError, match=r"rendezvous-secret is not there, or empty"):
        join(0, None).result(60)


def test_a_job_of_one_rank_opens_no_port(join: Callable[..., Future[Any]], port: int) -> None:
    assert join(0, None, hosts="127.0.0.2 slots=1\n").result(60) is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 5)


class _Touches:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)
