"""What the local backend remembers: one folder a job, readable by a person.

$ZEROTUNE_HOME (default ~/.zerotune)
  cache/                        fetched models and tokenized data, shared by all jobs
  replaced/                     what `zerotune run --fresh` replaced
  finetunejob/NAME/             (or inferencejob/NAME/)
    job.yaml                    the resource, with the uid it got here
    status.json                 its status, in the shape Kubernetes would show
    lock                        held while the job runs, by the runner and its nodes
    attempt-0/                  what a pod would get: config.json, hostfile, deepspeed.json
    attempt-0/node-0.log        what the node printed
    attempt-0/node-0.termination.json
    offloaded/                  parameters on disk while the job runs (`zero.offloadParam: nvme`)
    output/                     the result, unless `spec.output.uri` says otherwise
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from zerotune_operator.api.jobs import KINDS
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_trainer.errors import ConfigurationError, InputMissingError


@dataclass(frozen=True)
class Home:
    """The folder of all local jobs."""

    path: Path

    @classmethod
    def of_environment(cls) -> Home:
        """`$ZEROTUNE_HOME`, else `~/.zerotune`.

        Raises:
            ConfigurationError: this user has no home folder.
        """
        try:
            return cls(Path(os.environ.get("ZEROTUNE_HOME") or "~/.zerotune").expanduser().absolute())
        except RuntimeError as error:
            raise ConfigurationError(
                f"this user has no home folder: {error}", "set ZEROTUNE_HOME to a folder for jobs and their results"
            ) from error

    @property
    def cache(self) -> Path:
        """Fetched models and tokenized data."""
        return self.path / "cache"

    def job(self, kind: str, name: str) -> JobFolder:
        """The folder of a job, whether it is there or not."""
        return JobFolder(self.path / kind.lower() / name)

    def create(self, kind: str, name: str) -> JobFolder:
        """The folder of a job, made where it is not there.

        Raises:
            ConfigurationError: it cannot be written.
        """
        folder = self.job(kind, name)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            self.cache.mkdir(exist_ok=True)
            with (folder.path / "lock").open("a"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"local jobs keep their state in {self.path}, which cannot be written: {error.strerror}",
                "set ZEROTUNE_HOME to a folder that you can write",
            ) from error
        return folder

    def jobs(self) -> list[JobFolder]:
        """All jobs, FineTuneJobs first, by name."""
        folders = (self.path / kind.lower() for kind in KINDS)
        found = (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()))
        return [JobFolder(path) for path in found if (path / "job.yaml").is_file()]

    def find(self, name: str) -> list[JobFolder]:
        """The jobs of that name: at most one of each kind.

        Raises:
            InputMissingError: there is none.
        """
        found = [folder for folder in self.jobs() if folder.name == name]
        if not found:
            names = ", ".join(sorted({folder.name for folder in self.jobs()})) or "none"
            raise InputMissingError(
                f"there is no job {name!r} in {self.path} (there are: {names})",
                "give one of these names, or set ZEROTUNE_HOME to the folder that the job was run with; what another "
                "machine has started on SageMaker is found by its file: `zerotune status --file FILE`",
            )
        return found

    def put_aside(self, folder: JobFolder, now: datetime) -> Path:
        """Move all of a job out of the way but its lock, which whoever begins it anew holds; the place it went to."""
        target = self.path / "replaced" / f"{folder.path.parent.name}-{folder.name}-{now:%Y%m%dT%H%M%S.%f}"
        target.mkdir(parents=True)
        # `job.yaml` goes last: until then this is the folder of the old job.
        for path in sorted(folder.path.iterdir(), key=lambda path: path.name == "job.yaml"):
            if path.name != "lock":
                path.rename(target / path.name)
        return target
