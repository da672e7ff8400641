"""Jobs that another machine has started on SageMaker: found by their file, and known here from then on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import typer

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.admit import admit
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.registry import BACKENDS, Target
from zerotune_operator.lifecycle.attempts import FINAL, next_attempt, under_way
from zerotune_trainer.errors import InputMissingError


def find_again(job: Job, home: Home) -> JobFolder:
    """The folder of a job of a file; made here where it runs on SageMaker, or has, and another machine has started it.

    Raises:
        InputMissingError: nothing is known of it.
        ZerotuneError: it is another job, or AWS does not answer.
    """
    folder = home.job(job.kind, job.metadata.name)
    if (folder.path / "job.yaml").is_file():
        return folder
    if job.spec.backend.sagemaker is None:
        raise InputMissingError(
            f"{job.kind} {job.metadata.name} was not run with the home {home.path}",
            "set ZEROTUNE_HOME to the folder that it was run with, or run it",
        )
    BACKENDS[Target.SAGEMAKER].require(job)
    folder = home.create(job.kind, job.metadata.name)
    with folder.locked():
        known = admit(job, folder, datetime.now(UTC), lambda: BACKENDS[Target.SAGEMAKER].uid(job, False))
        asyncio.run(_adopt(known, folder, home))
    return folder


async def _adopt(job: Job, folder: JobFolder, home: Home) -> None:
    """Write the job down with all attempts that it has had; none is started."""
    # boto3 takes time to import.
    from zerotune_operator.backends.sagemaker.execution_role import with_role
    from zerotune_operator.backends.sagemaker.standalone import driver_of, standalone_backend
    from zerotune_operator.cli.run_sagemaker import begin

    job = await asyncio.to_thread(with_role, job)
    backend, status = standalone_backend(job, home), folder.read_status()
    if not await backend.has_started(0):
        raise InputMissingError(
            f"SageMaker knows no {backend.training_job_name(0)}, and so no {job.kind} {job.metadata.name} that writes "
            f"to {job.spec.output.uri}",
            "see that the file, the region and the account are those that it was started with, or run it",
        )
    status = await begin(job, folder, backend, status)
    while not under_way(status) and status.phase not in FINAL and await backend.has_started(next_attempt(status)):
        status = (await driver_of(job, backend).step(status)).status
        folder.write_status(status)
        _say_ended(folder, status)


def _say_ended(folder: JobFolder, status: JobStatus) -> None:
    """Say why an attempt has ended after which there may be another one: the status has the cause of the last alone."""
    if status.phase == "Restarting" and status.root_cause is not None:
        cause, number = status.root_cause, status.attempts[-1].number
        typer.echo(f"{folder.name}: attempt {number} failed ({cause.failure_class}): {cause.message}", err=True)
