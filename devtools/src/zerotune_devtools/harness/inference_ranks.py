"""The ranks of an InferenceJob, started as a launcher does, and the folder that they are given."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from zerotune_trainer.config import RENDEZVOUS_FILE, InferConfig
from zerotune_trainer.errors import Failure
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.forkserver import RankTarget, start_rank
from zerotune_trainer.launching.worker import run_rank
from zerotune_trainer.progress import HeartbeatMessage, Progress


@dataclass
class Outcome:
    """How the ranks of a job ended and what they reported."""

    exit_codes: list[int | None]
    heartbeats: list[list[HeartbeatMessage]]

    @property
    def failure(self) -> Failure | None:
        """The failure of the lowest rank that has one."""
        return next(
            (heartbeats[-1].failure for heartbeats in self.heartbeats if heartbeats and heartbeats[-1].failure), None
        )

    @property
    def progress(self) -> Progress | None:
        """What rank 0 reported last of the whole job."""
        return next((heartbeat.progress for heartbeat in reversed(self.heartbeats[0]) if heartbeat.progress), None)


class Ranks:
    """The ranks of a job, started."""

    def __init__(self, started: list[tuple[BaseProcess, Connection]]) -> None:
        self.processes = [process for process, _ in started]
        self.heartbeats: list[list[HeartbeatMessage]] = [[] for _ in started]
        self._pipes = [pipe for _, pipe in started]

    def listen(self) -> None:
        """Take in what the ranks have reported."""
        for pipe, heartbeats in zip(self._pipes, self.heartbeats, strict=True):
            try:
                while not pipe.closed and pipe.poll():
                    heartbeats.append(HeartbeatMessage.model_validate_json(pipe.recv_bytes()))
            except (EOFError, OSError):
                pipe.close()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Until it holds, or all ranks have ended."""
        deadline = time.monotonic() + seconds
        while not condition() and any(process.is_alive() for process in self.processes):
            assert time.monotonic() < deadline, "the ranks do not come to an end"
            self.listen()
            time.sleep(0.01)
        self.listen()

    def end(self, seconds: float = 120) -> Outcome:
        """Wait for all ranks; as a launcher does, stop the others once one has failed."""
        self.wait_until(lambda: any(process.exitcode for process in self.processes), seconds)
        for process in self.processes:
            process.join(5)
        self.kill()
        self.listen()
        return Outcome([process.exitcode for process in self.processes], self.heartbeats)

    def kill(self) -> None:
        """SIGKILL for every rank that runs."""
        for process in self.processes:
            process.kill()
            process.join()


def run_rank_with_operators(folder: Path, host: str, local_rank: int, pipe: Connection) -> NoReturn:
    """As `worker.run_rank`, with DeepSpeed's operators where they were compiled since the forkserver began."""
    from zerotune_devtools.compiled import async_io  # Imports torch, which the forkserver has.

    async_io.load()
    run_rank(folder, host, local_rank, pipe)


def start_ranks(
    folder: Path, target: RankTarget = run_rank_with_operators, replica: int = 0, replicas: int = 1
) -> Ranks:
    """Fork the ranks of a job's folder.

    Args:
        folder: The job's.
        target: What each runs.
        replica: The replica whose ranks they are.
        replicas: How many the job has.
    """
    hosts = Hostfile.parse((folder / "hostfile").read_text()).of_replica(replica, replicas).hosts
    places = [(host.name, local_rank) for host in hosts for local_rank in range(host.slots)]
    return Ranks([start_rank(target, folder, host, local_rank) for host, local_rank in places])


def write_folder(
    work: Path, model: Path, /, *, ranks: int = 2, replicas: int = 1, name: str = "answers", **parts: Any
) -> Path:
    """Write the folder of a job whose output goes to `work/output`; returns it.

    Args:
        work: What the job reads and writes is below it.
        model: The model's folder.
        ranks: How many of one host.
        replicas: How many, each of one host.
        name: The job's.
        parts: Of its configuration, in place of what is there without them.
    """
    config = {
        "job": {"kind": "InferenceJob", "name": name, "uid": f"uid-of-{name}"},
        "launch": {
            "masterPort": _free_port(),
            "progressPort": _free_port(),
            "replicas": replicas,
            "replicaTimeoutSeconds": 3,
            "cacheDir": str(work / "cache"),
            "offloadDir": str(work / "disk"),
        },
        "model": {"uri": model.as_uri()},
        "output": {"uri": (work / "output").as_uri()},
        "engine": "transformers",
        "generation": {"maxNewTokens": 6},
        "outputFormat": {},
        "perDeviceBatchSize": 4,
    }
    folder = work / "job"
    folder.mkdir(exist_ok=True)
    whole = InferConfig.model_validate(config | parts)
    (folder / "config.json").write_text(whole.model_dump_json(by_alias=True))
    (folder / "hostfile").write_text("".join(f"127.0.0.{host} slots={ranks}\n" for host in range(1, replicas + 1)))
    secret = folder / RENDEZVOUS_FILE
    secret.touch(mode=0o600)
    secret.write_text("a secret of this job")
    return folder


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
