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
from zerotune_operator.backends.output_owner import described
from zerotune_operator.backends.sagemaker import standalone
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.layout import is_of_a_run
from zerotune_operator.cli.status import true_status
from zerotune_operator.lifecycle.attempts import FINAL, next_attempt, under_way
from zerotune_operator.lifecycle.transitions import suspended
from zerotune_trainer.errors import ConfigurationError

_SAID = {"InProgress": "SageMaker stops it within two minutes", "Stopping": "SageMaker is stopping it already"}
"""By the state that its training job was in."""
_NOTHING_RUNS = "no training job of it runs at SageMaker"
_HELD = f"{_NOTHING_RUNS}; a `zerotune run` that waits to start the next attempt, on whatever machine, ends instead"
_STOPPED_THEN = "this command waits for it, two minutes at most, and stops it then"


def command(name: Annotated[str, typer.Argument(help="Name of the job.")]) -> None:
    """Stop a job on SageMaker: its ranks save a checkpoint first, and `zerotune run` goes on from it. What runs on this
    machine is stopped by Ctrl-C where it runs."""
    home = Home.of_environment()
    for folder in home.find(name):
        stop(folder, home)


def stop(folder: JobFolder, home: Home) -> bool:
    """Stop a job, and say what was found; answers whether anything of it ran, or was to.

    Raises:
        ZerotuneError: it runs on this machine, or AWS does not answer.
    """
    job, status = folder.read_job(), folder.read_status()
    if job.spec.backend.sagemaker is None:
        typer.echo(f"{folder.name}: {_why_nothing_runs(folder)}")
        return False
    has_succeeded = status.phase == "Succeeded" and not under_way(status)
    said = _NOTHING_RUNS if has_succeeded else _stop_at_aws(job, folder, home)
    if said is _NOTHING_RUNS and (ended := folder.read_status()).phase in FINAL and not under_way(ended):
        typer.echo(f"{folder.name}: has ended already, its phase is {ended.phase}")
    else:
        typer.echo(f"{folder.name}: {said}; `zerotune status {folder.name}` shows what becomes of it")
    if said is _NOTHING_RUNS:
        _say_what_runs_nevertheless(job, folder)
    return said is not _NOTHING_RUNS


def _say_what_runs_nevertheless(job: Job, folder: JobFolder) -> None:
    if folder.is_running():
        typer.echo(f"{folder.name}: a `zerotune run` follows it, and starts the next attempt: press Ctrl-C there")
    claim = asyncio.run(standalone.running_claim(job))
    if claim is None:
        return
    remedy = "whoever has started it stops it; on a cluster by runPolicy.suspend"
    if is_of_a_run(claim.uid):
        remedy = (
            f"`zerotune status --file FILE`, with its file, makes it known here, then `zerotune stop {claim.name}` "
            "stops it"
        )
    other = described(claim.kind, claim.name, claim.uid, job)
    typer.echo(f"{folder.name}: the training job {claim.training_job_name} of {other} writes to its output: {remedy}")


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


def _stop_at_aws(job: Job, folder: JobFolder, home: Home) -> str:
    """What is said of the stop of a job's newest training job, also of an attempt that another machine has started."""
    status = folder.read_status()
    said = _said(asyncio.run(_stop_newest(standalone.standalone_backend(job, home), status, folder.name)))
    if said is not _NOTHING_RUNS:
        return said
    looked_at, status = next_attempt(status), asyncio.run(standalone.refresh(folder, home))
    if under_way(status) and status.attempts[-1].number >= looked_at:
        return _said(asyncio.run(_stop_newest(standalone.standalone_backend(job, home), status, folder.name)))
    if standalone.waits_to_start(status) and not folder.is_running():
        asyncio.run(_hold(job, folder, home))
        return _HELD
    return _NOTHING_RUNS


def _said(states: set[str]) -> str:
    return next((text for state, text in _SAID.items() if state in states), _NOTHING_RUNS)


async def _hold(job: Job, folder: JobFolder, home: Home) -> None:
    """Have no process start the next attempt before the job is run again."""
    await standalone.standalone_backend(job, home).stops.hold(next_attempt(folder.read_status()))
    with folder.locked():
        folder.write_status(suspended(folder.read_status(), datetime.now(UTC)))


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
