"""A job on real ranks, as these tests change it, run it and read what came of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.trainer.training.training_rank import ENVIRONMENT_NAME, LOG_NAME, run_logged_rank
from zerotune_trainer.config import RENDEZVOUS_FILE, TrainConfig
from zerotune_trainer.errors import Failure, PeerLostError
from zerotune_trainer.launching.forkserver import start_rank
from zerotune_trainer.progress import HeartbeatMessage, Phase

_SECONDS_A_JOB = 120
_MEASURED = ("tokensPerSecond", "memoryBytes", "elapsedSeconds")
"""Fields of a record that no two runs have in common."""


@dataclass
class Running:
    """A job whose ranks run: what they report arrives in `heartbeats`."""

    processes: list[ForkServerProcess]
    pipes: list[Connection]
    log: Path
    log_start: int
    heartbeats: list[HeartbeatMessage] = field(default_factory=list)

    def until(self, reached: Callable[[HeartbeatMessage], bool]) -> HeartbeatMessage:
        """Wait for a heartbeat of any rank."""
        for heartbeat in self._receive():
            if reached(heartbeat):
                return heartbeat
        raise AssertionError("the job ended before what was waited for")

    def signal(self, number: int, ranks: list[int] | None = None) -> None:
        """Send a signal to some ranks, or to all of them."""
        for rank, process in enumerate(self.processes):
            if ranks is None or rank in ranks:
                assert process.pid is not None
                os.kill(process.pid, number)

    def end(self) -> Ended:
        """Wait until every rank has ended. When one fails the others are killed, as the launcher does."""
        for _ in self._receive():
            if any(process.exitcode not in (None, 0, 143) for process in self.processes):
                time.sleep(1)
                self.signal_the_living(signal.SIGKILL)
        for process in self.processes:
            process.join(30)
        failures = {heartbeat.rank: heartbeat.failure for heartbeat in self.heartbeats if heartbeat.failure is not None}
        log = self.log.read_bytes()[self.log_start :].decode()
        return Ended([process.exitcode for process in self.processes], failures, self.heartbeats, log)

    def signal_the_living(self, number: int) -> None:
        self.signal(number, [rank for rank, process in enumerate(self.processes) if process.exitcode is None])

    def _receive(self) -> Iterator[HeartbeatMessage]:
        deadline = time.monotonic() + _SECONDS_A_JOB
        while self.pipes:
            ready = wait(self.pipes, timeout=1)
            for pipe in ready:
                try:
                    heartbeat = HeartbeatMessage.model_validate_json(pipe.recv_bytes())
                except EOFError:
                    self.pipes.remove(pipe)
                    continue
                self.heartbeats.append(heartbeat)
                yield heartbeat
            if time.monotonic() > deadline:
                self.signal_the_living(signal.SIGKILL)
                raise AssertionError(f"the job did not end within {_SECONDS_A_JOB}s: {self.heartbeats[-3:]}")


@dataclass
class Ended:
    """What came of a job."""

    exit_codes: list[int | None]
    failures: dict[int, Failure]
    heartbeats: list[HeartbeatMessage]
    log: str

    @property
    def own_exit_codes(self) -> set[int | None]:
        """Those of the ranks that failed by themselves: one that still meets the others as rank 0 ends has lost it."""
        return set(self.exit_codes) - {PeerLostError.exit_code}

    @property
    def warnings(self) -> list[str]:
        """What the last figures of rank 0 warn of."""
        return (
            next((heartbeat.progress.warnings for heartbeat in reversed(self.heartbeats) if heartbeat.progress), None)
            or []
        )

    @property
    def phases(self) -> list[Phase]:
        """The phases of rank 0, each once, in order."""
        return list(dict.fromkeys(heartbeat.phase for heartbeat in self.heartbeats if heartbeat.rank == 0))


@dataclass
class Job:
    """A FineTuneJob as its ranks get it. Change `config` and `deepspeed` as you like, then run it, again and again."""

    folder: Path
    config: dict[str, Any]
    deepspeed: dict[str, Any]
    hosts: str
    port: int | None = None
    """Where the ranks meet; a free port unless given."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the ranks."""
    cache_of: dict[str, str] = field(default_factory=dict)
    """The cache of a host that does not share `launch.cacheDir` with the others."""
    train_uri_of: dict[str, str] = field(default_factory=dict)
    """The training data of a host that sees other files than the others."""

    @property
    def output(self) -> Path:
        return Path(self.config["output"]["uri"].removeprefix("file://"))

    @property
    def checkpoints(self) -> Path:
        return self.output / "checkpoints"

    def start(self, hostfile_of: dict[str, str] | None = None) -> Running:
        """Start every rank; `hostfile_of` gives a host a hostfile that differs from that of the others."""
        self.config["launch"]["masterPort"] = self.port or free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ENVIRONMENT_NAME).write_text(json.dumps(self.environment))
        log = self.folder / LOG_NAME
        log.touch()
        running = Running([], [], log, log.stat().st_size)
        for line in self.hosts.splitlines():
            host, slots = line.split(" slots=")
            folder = self.write(host, (hostfile_of or {}).get(host, self.hosts))
            for local_rank in range(int(slots)):
                process, pipe = start_rank(run_logged_rank, folder, host, local_rank)
                running.processes.append(process)
                running.pipes.append(pipe)
        return running

    def write(self, host: str, hostfile: str) -> Path:
        """Write the folder that a host gets."""
        folder = self.folder / host
        folder.mkdir(parents=True, exist_ok=True)
        launch = self.config["launch"]
        config = self.config | {"launch": launch | {"cacheDir": self.cache_of.get(host, launch["cacheDir"])}}
        if host in self.train_uri_of:
            data = self.config["data"]
            config |= {"data": data | {"train": data["train"] | {"uris": [self.train_uri_of[host]]}}}
        (folder / "config.json").write_text(TrainConfig.model_validate(config).model_dump_json(by_alias=True))
        (folder / "deepspeed.json").write_text(json.dumps(self.deepspeed))
        (folder / "hostfile").write_text(hostfile)
        (folder / RENDEZVOUS_FILE).write_text("a secret of this job")
        return folder

    def run(self) -> Ended:
        return self.start().end()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]

    def losses(self) -> list[float]:
        return [record["loss"] for record in self.records() if "loss" in record]

    def curve(self) -> list[dict[str, Any]]:
        """The records: losses, gradient norms, learning rates and evaluations, exactly as they were written."""
        return [{key: value for key, value in record.items() if key not in _MEASURED} for record in self.records()]

    def weights(self) -> str:
        """sha256 of the output's weights."""
        return hashlib.sha256((self.output / "model.safetensors").read_bytes()).hexdigest()

    def results(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.output / "results.json").read_text())
        return loaded


def eight_steps(job: Job) -> Job:
    job.config["training"]["maxSteps"] = 8
    return job


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until a server that has just been started answers."""
    deadline = time.monotonic() + 60
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.1)
