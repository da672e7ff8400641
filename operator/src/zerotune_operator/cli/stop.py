"""`zerotune stop NAME`: stop a job on SageMaker, which saves a checkpoint first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.sagemaker import standalone
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.cli.status import true_status
from zerotune_operator.lifecycle.attempts import FINAL, under_way
from zerotune_trainer.errors import ConfigurationError

_SAID = {"InProgress": "SageMaker stops it within two minutes", "Stopping": "SageMaker is stopping it already"}
"""By the state that its training job was in."""
_NOTHING_RUNS = "no training job of it runs at SageMaker"
_STOPPED_THEN = "this command waits for it, two minutes at most, and stops it then"


def command(name: Annotated[str, typer.Argument(help="Name of the job.")]) -> None:
    """Stop a job on SageMaker: its ranks save a checkpoint first, and `zerotune run` goes on from it. What runs on this
    machine is stopped by Ctrl-C where it runs."""
    home = Home.of_environment()
    for folder in home.find(name):
        _stop(folder, home)


def _stop(folder: JobFolder, home: Home) -> None:
    job, status = folder.read_job(), folder.read_status()
    if job.spec.backend.sagemaker is None:
        typer.echo(f"{folder.name}: {_why_nothing_runs(folder)}")
        return
    has_ended = status.phase in FINAL and not under_way(status)
    said = _NOTHING_RUNS if has_ended and status.phase == "Succeeded" else _stop_at_aws(job, folder, home, status)
    if has_ended and said is _NOTHING_RUNS:
        typer.echo(f"{folder.name}: has ended already, its phase is {status.phase}")
        return
    # One that has failed here may have been begun again elsewhere, or created though AWS did not say so.
    typer.echo(f"{folder.name}: {said}; `zerotune status {folder.name}` shows what becomes of it")
    if said is _NOTHING_RUNS and folder.is_running():
        typer.echo(f"{folder.name}: a `zerotune run` follows it, and starts the next attempt: press Ctrl-C there")


def _why_nothing_runs(folder: JobFolder) -> str:
    """What there is to say of a job of this machine that is to be stopped.

    Raises:
        ConfigurationError: it runs, and only who runs it can stop it.
    """
    status = true_status(folder, datetime.now(UTC))
    if folder.is_running():
        raise ConfigurationError(
            f"{folder.name} runs on this machine", "press Ctrl-C where `zerotune run` runs: it saves a checkpoint first"
        )
    if status.phase == "Suspended":
        return "is suspended already, and nothing of it runs; `zerotune run` with its file goes on from where it is"
    if status.phase in FINAL:
        return f"has ended already, its phase is {status.phase}"
    return f"nothing of it runs, its phase is {status.phase or 'Pending'}; `zerotune run` with its file starts it"


def _stop_at_aws(job: Job, folder: JobFolder, home: Home, status: JobStatus) -> str:
    """What is said of the stop of a job's newest training job."""
    found = asyncio.run(_stop_newest(standalone.standalone_backend(job, home), status, folder.name))
    return next((text for state, text in _SAID.items() if state in found), _NOTHING_RUNS)


async def _stop_newest(backend: SageMakerBackend, status: JobStatus, name: str) -> set[str]:
    """Stop the newest training job, recorded or not, once SageMaker shows it: the states that it, and the one before
    it, had.
    """
    stopped = await backend.stops.stop_newest(status)
    if stopped.unseen is not None:
        typer.echo(f"{name}: SageMaker does not show training job {stopped.unseen} yet; {_STOPPED_THEN}")
    while stopped.unseen is not None:
        await asyncio.sleep(standalone.POLL_SECONDS)
        stopped = await backend.stops.stop_newest(status)
    return stopped.states
