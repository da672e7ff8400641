"""Whether a job may run under its name: a new one, the same again, or another one that would mix with what is there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.lifecycle.attempts import has_made_steps
from zerotune_trainer.errors import ConfigurationError

_FREE = ("runPolicy", "backend", "maxErrorRate")
"""Parts of the spec that may change between runs: they do not touch the result. Nor does `topology.replicas`."""


def admit(job: Job, folder: JobFolder, now: datetime, new_uid: Callable[[], str | None] = lambda: None) -> Job:
    """The job with its uid: that of the job of this name, or a new one.

    A changed spec is taken over while the job has made no step; afterwards it would mix two jobs in one output.

    Args:
        job: The job.
        folder: Its folder.
        now: When it was created, if it is new.
        new_uid: The uid of a job that the folder does not hold. None: one that no job had before.

    Raises:
        ConfigurationError: the spec changed, and there is something to lose.
    """
    if not (folder.path / "job.yaml").is_file():
        return new_job(job, now, new_uid)
    known = folder.read_job()
    changes = result_changes(known, job)
    if changes and has_made_steps(folder.read_status()):
        raise ConfigurationError(
            f"{job.kind} {job.metadata.name!r} has run with another spec before: {'; '.join(changes)}",
            "give the new job another name (`--name`), or start over with `--fresh`, which puts the old one aside"
            + _kept_output(known, job),
        )
    return job.model_copy(update={"metadata": known.metadata})


def new_job(job: Job, now: datetime, new_uid: Callable[[], str | None] = lambda: None) -> Job:
    """The job with a uid of its own; the arguments are those of `admit`."""
    return _with_identity(job, new_uid() or str(uuid.uuid4()), now)


def _kept_output(known: Job, job: Job) -> str:
    """What else a new job needs where the output of the old one is not in its folder, and does not move with it."""
    kept = known.spec.output.uri
    if kept is None or kept != job.spec.output.uri:
        return ""
    return f"; either way with another output.uri, as the old one's output stays in {kept}"


def result_changes(known: Job, job: Job) -> list[str]:
    """What differs between two specs of a job, as far as it touches the result: `data.maxLength was 64, is 128`."""
    return list(_changes(_result_spec(known), _result_spec(job), ""))


def _with_identity(job: Job, uid: str, now: datetime) -> Job:
    """The job as an API server would store it."""
    return created_at(job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": uid})}), now)


def created_at(job: Job, time: datetime) -> Job:
    """The job with the time of its creation."""
    given = job.metadata.model_dump(by_alias=True, exclude_unset=True)
    stored = {"creationTimestamp": time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    return job.model_copy(update={"metadata": type(job.metadata).model_validate(given | stored)})


def created(job: Job) -> datetime:
    """When a job was created that is stored."""
    return datetime.fromisoformat(str(job.metadata.model_dump(by_alias=True)["creationTimestamp"]))


def _result_spec(job: Job) -> dict[str, Any]:
    spec = job.spec.model_dump(mode="json", by_alias=True)
    spec["topology"].pop("replicas")
    return {field: value for field, value in spec.items() if field not in _FREE}


def _changes(old: object, new: object, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield f"{path} was {old!r}, is {new!r}"
