"""The folder of one local job: its resource, its status, its lock, and a folder an attempt."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from zerotune_operator.api.jobs import KINDS, Job
from zerotune_operator.api.status import JobStatus
from zerotune_trainer.atomic import write_atomically
from zerotune_trainer.errors import DataError, InputMissingError, TemporaryError

_LOCK_PATIENCE_SECONDS = 1.0

_ATTEMPT = re.compile(r"^attempt-(\d+)$")


@dataclass(frozen=True)
class AttemptFolder:
    """What the nodes of one attempt get and leave."""

    path: Path

    def log(self, node: int) -> Path:
        """What a node printed."""
        return self.path / f"node-{node}.log"

    def termination_message(self, node: int) -> Path:
        """Why a node ended, where it failed."""
        return self.path / f"node-{node}.termination.json"


@dataclass(frozen=True)
class JobFolder:
    """Everything known about one local job."""

    path: Path

    @property
    def kind(self) -> str:
        """`FineTuneJob` or `InferenceJob`."""
        return next(kind for kind in KINDS if kind.lower() == self.path.parent.name)

    @property
    def name(self) -> str:
        """The job's name."""
        return self.path.name

    @property
    def output(self) -> Path:
        """Where the result goes unless the spec says otherwise."""
        return self.path / "output"

    @property
    def offloaded(self) -> Path:
        """Where nodes keep parameters on disk (`zero.offloadParam: nvme`) until they have ended."""
        return self.path / "offloaded"

    def attempt(self, number: int) -> AttemptFolder:
        """The folder of one attempt."""
        return AttemptFolder(self.path / f"attempt-{number}")

    def attempts(self) -> list[int]:
        """Numbers of the attempts there were, ascending."""
        found = (_ATTEMPT.match(path.name) for path in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def read_job(self) -> Job:
        """The resource as it was last run.

        Raises:
            InputMissingError: there is no such job.
            DataError: its file is damaged.
        """
        path = self.path / "job.yaml"
        if not path.is_file():
            raise InputMissingError(
                f"there is no local {self.kind} {self.name!r}", "`zerotune status` lists those there are"
            )
        with _readable(path):
            return KINDS[self.kind].model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))

    def write_job(self, job: Job) -> None:
        """Keep the resource, with only those fields that were given."""
        given = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
        text = yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
        write_atomically(self.path / "job.yaml", text.encode())

    def read_status(self) -> JobStatus:
        """The last status that was written; an empty one before the first run.

        Raises:
            DataError: its file is damaged.
        """
        path = self.path / "status.json"
        if not path.is_file():
            return JobStatus()
        with _readable(path):
            return JobStatus.model_validate_json(path.read_bytes())

    def status_written_at(self) -> datetime:
        """When the status was written last; now where there is none."""
        path = self.path / "status.json"
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.is_file() else datetime.now(UTC)

    def write_status(self, status: JobStatus) -> None:
        """Replace the status as a whole: a reader sees the old one or the new one."""
        text = status.model_dump_json(by_alias=True, exclude_none=True, indent=2)
        write_atomically(self.path / "status.json", f"{text}\n".encode())

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the job for this process and for those that inherit the yielded file descriptor.

        Raises:
            TemporaryError: another process runs this job.
        """
        descriptor = self._acquire()
        try:
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield descriptor
        finally:
            os.close(descriptor)

    def is_running(self) -> bool:
        """Whether a runner, or a node it left behind, is still at work: the kernel frees a dead process's lock."""
        path = self.path / "lock"
        if not path.is_file():
            return False
        with path.open() as file:
            return not _lock(file.fileno(), fcntl.LOCK_SH)

    def _acquire(self) -> int:
        """The lock file, locked. While it is waited for, somebody may remove the folder, and the lock with it."""
        path, deadline = self.path / "lock", time.monotonic() + _LOCK_PATIENCE_SECONDS
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if _lock(descriptor, fcntl.LOCK_EX) and _is_open_file(path, descriptor):
                return descriptor
            os.close(descriptor)
            # `zerotune status` holds the lock for an instant when it reads it: hence the patience.
            if time.monotonic() > deadline:
                raise self._runs_already()
            time.sleep(0.05)

    def _runs_already(self) -> TemporaryError:
        runner = (self.path / "lock").read_text(encoding="utf-8").strip()
        return TemporaryError(
            f"{self.kind} {self.name!r} is running already (started by process {runner})",
            f"follow it with `zerotune logs {self.name} -f`, or wait until it has stopped",
        )


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Whether a path is still that of an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what parsing raises over a damaged file into an error that names it."""
    try:
        yield
    except (ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} is damaged: {reason}",
            "start the job over with `zerotune run --fresh`, which puts the old one aside",
        ) from error
