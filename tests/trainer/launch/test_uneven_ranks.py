"""Ranks that wait long for each other, or lose each other while they wait. They are real; no launcher watches them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tests.trainer.launch.paced_rank import DATA_SECONDS, OUTPUT_SECONDS, run_paced_rank
from zerotune_trainer.errors import Failure
from zerotune_trainer.launching.forkserver import start_rank
from zerotune_trainer.progress import HeartbeatMessage

pytestmark = pytest.mark.slow

_SECONDS_A_JOB = 90


@dataclass
class Rank:
    """A rank that was started."""

    process: ForkServerProcess
    pipe: Connection
    last: HeartbeatMessage | None = None
    """What it reported last."""

    def until(self, phase: str) -> None:
        """Wait until it is in a phase."""
        while self.last is None or self.last.phase != phase:
            self._receive()

    def end(self) -> int | None:
        """Its exit code, once it has ended."""
        while self.process.exitcode is None or self.pipe.poll():
            try:
                self._receive()
            except EOFError:
                self.process.join(10)
                break
        return self.process.exitcode

    @property
    def failure(self) -> Failure | None:
        return self.last.failure if self.last else None

    def _receive(self) -> None:
        assert self.pipe.poll(_SECONDS_A_JOB), f"nothing is heard after {self.last}"
        self.last = HeartbeatMessage.model_validate_json(self.pipe.recv_bytes())


@pytest.fixture
def start(make_job: Callable, model_folder: Path, warm_ranks: None, tmp_path: Path) -> Iterator[Callable]:
    """Starts the ranks of a job of three steps at a pace; kills what is left of them after the test."""
    ranks: list[Rank] = []
    (tmp_path / "data.jsonl").write_text("".join(f'{{"text": "record {number} "}}\n' for number in range(50)))

    def start(pace: str, hosts: dict[str, int] | None = None, **launch: int) -> list[Rank]:
        job = make_job(hosts or {"127.0.0.1": 1, "127.0.0.2": 1}, **launch)
        job.config["model"] = {"uri": f"file://{model_folder}"}
        job.config["data"] = {"train": {"uris": [f"file://{tmp_path / 'data.jsonl'}"]}, "maxLength": 32}
        job.config["training"] = {"perDeviceTrainBatchSize": 2, "gradientAccumulationSteps": 1, "maxSteps": 3}
        job.config["evaluation"] = {"evalStrategy": "no"}
        job.write()
        (job.folder / "pace").write_text(pace)
        places = [(host, local_rank) for host, slots in job.hosts.items() for local_rank in range(slots)]
        ranks.extend(Rank(*start_rank(run_paced_rank, job.folder, host, local_rank)) for host, local_rank in places)
        return ranks

    yield start
    for rank in ranks:
        rank.process.kill()
        rank.process.join()


def test_the_rendezvous_succeeds_however_long_data_takes(start: Callable) -> None:
    first, second = start("slow_data", rendezvousTimeoutSeconds=DATA_SECONDS - 2)
    assert (first.end(), second.end()) == (0, 0), (first.failure, second.failure)


def test_ranks_wait_for_the_one_that_writes_the_output_for_longer_than_a_hang_takes(start: Callable) -> None:
    """D21: on SageMaker too, where the same launcher runs the ranks."""
    first, second = start("slow_output", hangTimeoutSeconds=OUTPUT_SECONDS - 4)
    assert (first.end(), second.end()) == (0, 0), (first.failure, second.failure)


def test_ranks_do_not_wait_so_long_for_a_step(start: Callable) -> None:
    _, second = start("slow_step", hangTimeoutSeconds=OUTPUT_SECONDS - 4)
    assert second.end() == 69
    assert "Timed out waiting" in second.failure.message


def test_the_death_of_the_one_that_is_waited_for_ends_the_wait(start: Callable) -> None:
    first, second = start("slow_output")
    first.until("saving")
    second.until("saving")
    time.sleep(1)
    first.process.kill()
    assert second.end() == 69
    assert second.failure.failure_class == "PeerLost"


def test_the_death_of_rank_0_ends_the_wait_for_its_data(start: Callable) -> None:
    first, second = start("slow_data")
    first.until("data")
    second.until("data")
    second.until("rendezvous")
    first.process.kill()
    assert second.end() == 69
    assert second.failure.failure_class == "PeerLost"


def test_hosts_may_have_addresses_of_version_6_alone(start: Callable) -> None:
    ranks = start("even", {"::1": 2})
    assert [rank.end() for rank in ranks] == [0, 0], [rank.failure for rank in ranks]
