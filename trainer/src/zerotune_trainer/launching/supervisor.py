"""Runs a node's ranks to their end: receives their messages, forwards a request to stop, detects hangs,
and reports why they failed."""

from __future__ import annotations

import logging
import threading
import time
from functools import cached_property
from multiprocessing.connection import wait
from pathlib import Path

from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.errors import Failure, HangError, PeerLostError, StoppedError
from zerotune_trainer.failures import root_cause
from zerotune_trainer.hostfile import Host, Hostfile
from zerotune_trainer.launching.forkserver import RankTarget, start_rank
from zerotune_trainer.launching.peers import silent_hosts, suspects
from zerotune_trainer.launching.processes import oom_kills
from zerotune_trainer.launching.rank import Rank
from zerotune_trainer.progress import Completion, HeartbeatMessage, NodeProgress, Progress, TopologyEntry

SECONDS_TO_NOTICE = 5.0
"""How long ranks get to fail by themselves after one of them has: what they report says more than a kill."""

_STANDSTILL_SECONDS = 60.0
"""How long ranks that were asked to stop may stand still before the other hosts are asked whether they are there. Ranks
notice nothing of a host that vanished with its sockets open, and they count as hung only long after the platform's
patience is over: a pod has ten minutes to stop. A step may take longer than this: then all hosts answer."""

_POLL_SECONDS = 0.2

_logger = logging.getLogger(__name__)


class Supervisor:
    """A node's ranks.

    Args:
        folder: The job's folder.
        config: Its configuration.
        hostfile: All hosts.
        host: This one.
        stop: Set when the ranks are to stop after a checkpoint. How long that may take is the platform's to say
            (`terminationGracePeriodSeconds`): it kills what takes longer.
    """

    def __init__(
        self, folder: Path, config: TrainConfig | InferConfig, hostfile: Hostfile, host: Host, stop: threading.Event
    ) -> None:
        self._folder, self._config, self._hostfile, self._host, self._stop = folder, config, hostfile, host, stop
        self._ranks: list[Rank] = []
        self._failures: list[Failure] = []
        self._waiting_for: Failure | None = None
        self._killed: set[int] = set()
        self._stopping = False
        self._next_host_check = 0.0
        self._silent_hosts: set[str] = set()
        self._kill_at: float | None = None
        self._progress: Progress | None = None
        self._topology: list[TopologyEntry] | None = None
        self._completion: Completion | None = None
        self._oom_kills = oom_kills()
        self._over_nccl = config.launch.accelerator == "cuda" and hostfile.world_size > 1

    def note_waiting(self, found: Failure | None) -> None:
        """Take down what the node waits for before it has ranks; None: nothing any more."""
        self._waiting_for = found

    def start(self, target: RankTarget) -> None:
        """Start the ranks.

        Args:
            target: What a rank runs.

        Raises:
            InternalError: they cannot be started.
        """
        _logger.info("starting ranks %s", ", ".join(str(number) for number in self._host.ranks))
        for local_rank, number in enumerate(self._host.ranks):
            self._ranks.append(Rank(number, *start_rank(target, self._folder, self._host.name, local_rank)))
        _logger.info("started ranks %s", ", ".join(f"{rank.number} (pid {rank.process.pid})" for rank in self._ranks))

    def run(self) -> Failure | Completion | None:
        """Wait for the ranks' end.

        Returns:
            Why they failed; else what rank 0 reported of the result, or None where it runs on another host.
        """
        while running := [rank for rank in self._ranks if rank.running]:
            self._receive(running)
            self._forward_stop()
            self._watch()
        return self._explained(root_cause(self._failures)) or self._completion

    def observe(self) -> NodeProgress:
        """The node as `/progress` shows it. Called in any thread."""
        return NodeProgress(
            job=self._config.job.name,
            attempt=self._config.job.attempt,
            host=self._host.name,
            ranks=[rank.view() for rank in self._ranks],
            progress=self._progress,
            topology=self._topology,
            completion=self._completion,
            failure=root_cause(self._failures),
            waiting_for=self._waiting_for,
        )

    def _receive(self, running: list[Rank]) -> None:
        pipes = [rank.pipe for rank in running if not rank.pipe.closed]
        ready = wait([*pipes, *(rank.process.sentinel for rank in running)], timeout=_POLL_SECONDS)
        for rank in running:
            # What a rank sent last is in its pipe before its sentinel is ready.
            for message in rank.receive():
                self._record(rank, message)
            if rank.process.sentinel in ready:
                rank.end()
                self._note_end(rank)

    def _record(self, rank: Rank, message: HeartbeatMessage) -> None:
        self._progress = message.progress or self._progress
        self._topology = message.topology or self._topology
        self._completion = message.completion or self._completion
        if message.failure is not None:
            self._fail(rank, message.failure)

    def _note_end(self, rank: Rank) -> None:
        _logger.info("rank %d ended with exit code %d", rank.number, rank.exit_code)
        if rank.last.failure is None and rank.number not in self._killed:
            failure = rank.failure(
                oom_kills=self._oom_kills_since_start(),
                over_nccl=self._over_nccl,
                own_code=_own_code(self._config),
                stopping=self._stopping,
            )
            if failure is not None:
                self._fail(rank, failure)

    def _fail(self, rank: Rank, failure: Failure) -> None:
        place = {"rank": rank.number, "host": self._host.name, "step": rank.last.step}
        self._failures.append(failure.model_copy(update=place))
        if failure.failure_class == StoppedError.failure_class:
            self._stop.set()
        elif self._kill_at is None:
            self._kill_at = time.monotonic() + SECONDS_TO_NOTICE

    def _forward_stop(self) -> None:
        if not self._stop.is_set() or self._stopping:
            return
        self._stopping = True
        _logger.info("asking the ranks to stop after a checkpoint")
        for rank in self._ranks:
            if rank.running:
                rank.process.terminate()

    def _watch(self) -> None:
        if self._kill_at is None:
            self._detect_hang()
        elif time.monotonic() >= self._kill_at:
            self._kill()
        if self._stopping and self._kill_at is None:
            self._detect_lost_host()

    def _detect_hang(self) -> None:
        timeout = self._config.launch.hang_timeout_seconds
        if not any(rank.hangs(timeout) for rank in self._ranks):
            return
        running = [rank for rank in self._ranks if rank.running]
        # The one that is silent holds up those that wait for it; among equals it is the one furthest behind.
        hung = min(running, key=lambda rank: (not rank.silent, rank.last.step))
        self._fail(hung, hung.hang() if hung.silent or not self._suspects else hung.wait())
        self._kill()

    def _detect_lost_host(self) -> None:
        """Give up ranks that cannot stop because they wait for a host that was lost: it was asked twice in vain."""
        patience = min(_STANDSTILL_SECONDS, self._config.launch.hang_timeout_seconds / 10)
        running, now = [rank for rank in self._ranks if rank.running], time.monotonic()
        if not running or now < self._next_host_check or not all(rank.stalls(patience) for rank in running):
            return
        self._next_host_check = now + patience
        before = self._silent_hosts
        self._silent_hosts = silent_hosts(self._hostfile, self._host, self._config.launch.progress_port)
        if before & self._silent_hosts:
            self._fail(running[0], running[0].wait())

    def _kill(self) -> None:
        for rank in self._ranks:
            if not rank.running or rank.number in self._killed:
                continue
            if rank.silent and not self._has_hang():
                self._fail(rank, rank.hang())
            self._killed.add(rank.number)
            rank.process.kill()

    def _has_hang(self) -> bool:
        return any(failure.failure_class == HangError.failure_class for failure in self._failures)

    def _explained(self, failure: Failure | None) -> Failure | None:
        if failure is None or failure.failure_class != PeerLostError.failure_class:
            return failure
        return failure.model_copy(update={"message": "; ".join([failure.message, *self._suspects])})

    @cached_property
    def _suspects(self) -> list[str]:
        """What is wrong on the other hosts. Asked for once, when it first matters: a host that failed soon ends."""
        return suspects(self._hostfile, self._host, self._config.launch.progress_port)

    def _oom_kills_since_start(self) -> int | None:
        now = oom_kills()
        return None if now is None or self._oom_kills is None else now - self._oom_kills


def _own_code(config: TrainConfig | InferConfig) -> str | None:
    """The file of the user's that the ranks run code of; None where there is none."""
    if isinstance(config, TrainConfig) and config.script is not None:
        return config.script.file
    return config.plugin.uri if config.plugin is not None else None
