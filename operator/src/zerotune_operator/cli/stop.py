"""`zerotune stop NAME`: stop a job on SageMaker, which saves a checkpoint first."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.sagemaker.standalone import standalone_backend
from zerotune_operator.lifecycle.attempts import FINAL, current_attempt, under_way
from zerotune_trainer.errors import ConfigurationError


def command(name: Annotated[str, typer.Argument(help="Name of the job.")]) -> None:
    """Stop a job on SageMaker: its ranks save a checkpoint first, and `zerotune run` goes on from it."""
    home = Home.of_environment()
    for folder in home.find(name):
        _stop(folder, home)


def _stop(folder: JobFolder, home: Home) -> None:
    job, status = folder.read_job(), folder.read_status()
    if job.spec.backend.sagemaker is None:
        raise ConfigurationError(
            f"{folder.name} runs on this machine", "press Ctrl-C where `zerotune run` runs: it saves a checkpoint first"
        )
    if status.phase in FINAL and not under_way(status):
        typer.echo(f"{folder.name}: has ended already, its phase is {status.phase}")
        return
    asyncio.run(standalone_backend(job, home).stop_attempt(current_attempt(status)))
    typer.echo(f"{folder.name}: SageMaker stops it within two minutes; `zerotune status {folder.name}` shows when")
