"""Jobs that another machine has started on SageMaker: found by their file, and known here from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import typer

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.admit import new_job, result_changes
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.registry import BACKENDS, Target
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError


def find_again(job: Job, home: Home) -> JobFolder:
    """The folder of a job of a file; made here where it runs on SageMaker, or has, and another machine has started it:
    also in the place of one that this home knows, where another machine has begun it anew since.

    Raises:
        InputMissingError: nothing is known of it.
        ZerotuneError: it is another job, or AWS does not answer.
    """
    folder = home.job(job.kind, job.metadata.name)
    known = folder.read_job() if (folder.path / "job.yaml").is_file() else None
    if job.spec.backend.sagemaker is None:
        if known is None:
            raise InputMissingError(
                f"{job.kind} {job.metadata.name} was not run with the home {home.path}",
                "set ZEROTUNE_HOME to the folder that it was run with, or run it",
            )
        _require_same_spec(known, job)
        return folder
    BACKENDS[Target.SAGEMAKER].require(job)
    if known is None:
        return _adopt(job, home, None)
    if known.spec.backend.sagemaker is None or known.spec.output.uri != job.spec.output.uri:
        return _adopt(job, home, lambda: _reject(known, home))
    if not folder.is_running() and _is_begun_later(known):
        return _adopt(job, home, lambda: _put_aside(folder, home))
    _require_same_spec(known, job)
    return folder


def _is_begun_later(known: Job) -> bool:
    """Whether another machine has begun a known job anew; False where AWS does not say so: who observes it says why."""
    from zerotune_operator.backends.sagemaker.standalone import begun_later  # boto3 takes time to import.

    with suppress(ZerotuneError):
        return asyncio.run(begun_later(known)) is not None
    return False


def _require_same_spec(known: Job, job: Job) -> None:
    if changes := result_changes(known, job):
        raise ConfigurationError(
            f"{job.kind} {job.metadata.name} was started with another spec: {'; '.join(changes)}",
            f"give the file that it was started from, or its name alone: `zerotune status {job.metadata.name}`",
        )


def _reject(known: Job, home: Home) -> None:
    raise ConfigurationError(
        f"{home.path} has another {known.kind} {known.metadata.name}, with output.uri "
        f"{known.spec.output.uri or 'in its folder'}",
        "set ZEROTUNE_HOME to another folder for the job of this file",
    )


def _put_aside(folder: JobFolder, home: Home) -> None:
    place = home.put_aside(folder, datetime.now(UTC))
    typer.echo(f"{folder.name}: another machine has begun it anew; what was known here is now in {place}", err=True)


def _adopt(job: Job, home: Home, make_room: Callable[[], None] | None) -> JobFolder:
    """Write a job of a file down with all attempts that it has had; none is started, and none is stopped."""
    policy = job.spec.run_policy.model_copy(update={"suspend": False})
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"run_policy": policy})})
    job = new_job(job, datetime.now(UTC), lambda: BACKENDS[Target.SAGEMAKER].uid(job, False))
    folder = home.create(job.kind, job.metadata.name)
    with folder.locked():
        asyncio.run(_write_down(job, folder, home, make_room))
    return folder


async def _write_down(job: Job, folder: JobFolder, home: Home, make_room: Callable[[], None] | None) -> None:
    # boto3 takes time to import.
    from zerotune_operator.backends.sagemaker.execution_role import with_role
    from zerotune_operator.backends.sagemaker.standalone import catch_up, standalone_backend
    from zerotune_operator.cli.run_sagemaker import begin

    job = await asyncio.to_thread(with_role, job)
    backend = standalone_backend(job, home)
    if not await backend.has_started(0):
        raise InputMissingError(
            f"SageMaker knows no {backend.training_job_name(0)}, and so no {job.kind} {job.metadata.name} that writes "
            f"to {job.spec.output.uri}",
            "see that the file, the region and the account are those that it was started with, or run it",
        )
    status = await begin(job, folder, backend, JobStatus(), make_room)
    await catch_up(folder, backend, status, lambda seen: _say_ended(folder, seen))


def _say_ended(folder: JobFolder, status: JobStatus) -> None:
    """Say why an attempt has ended after which there may be another one: the status has the cause of the last alone."""
    if status.phase == "Restarting" and status.root_cause is not None:
        cause, number = status.root_cause, status.attempts[-1].number
        typer.echo(f"{folder.name}: attempt {number} failed ({cause.failure_class}): {cause.message}", err=True)
