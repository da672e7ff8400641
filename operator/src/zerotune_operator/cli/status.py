"""`zerotune status [NAME]`: the local jobs, as `kubectl get` and `kubectl describe` would show them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import load_jobs
from zerotune_operator.api.status import JobStatus, cause_of
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.cli.found_again import find_again
from zerotune_operator.cli.status_text import Shown, described, table_of
from zerotune_operator.lifecycle.attempts import under_way
from zerotune_operator.lifecycle.conditions import unknown_since
from zerotune_operator.lifecycle.transitions import abandoned, is_passing, unobserved
from zerotune_trainer.errors import ZerotuneError


def command(
    name: Annotated[str | None, typer.Argument(help="Name of a job. Default: all.")] = None,
    output: Annotated[
        Literal["text", "json", "yaml"], typer.Option("--output", "-o", help="As what to print.")
    ] = "text",
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="The jobs of this file, those too that another machine runs on SageMaker."),
    ] = None,
) -> None:
    """Show the jobs that were run from this machine, or all that is known about one, or about those of a file."""
    home, now = Home.of_environment(), datetime.now(UTC)
    folders = _folders(home, name, file)
    found, errors = _read(folders, home, now)
    if output != "text":
        resources = [_resource(each.job, each.status) for each in found]
        typer.echo(_data(resources[0] if (name or file) and len(resources) == 1 else _list(resources), output))
    elif name is None and file is None:
        typer.echo(table_of(found, now) if found else f"no jobs in {home.path}")
    else:
        typer.echo("\n\n".join(described(each) for each in found))
    for error in errors:
        typer.echo(f"error: {error.message}\n  hint: {error.hint}", err=True)
    if errors:
        raise typer.Exit(errors[0].exit_code)


def _folders(home: Home, name: str | None, file: Path | None) -> list[JobFolder]:
    if file is not None:
        if name is not None:
            raise typer.BadParameter(f"NAME is {name}, and --file names jobs too: give one of the two")
        return [find_again(job, home) for job in load_jobs(file)]
    return home.jobs() if name is None else home.find(name)


def _read(folders: Sequence[JobFolder], home: Home, now: datetime) -> tuple[list[Shown], list[ZerotuneError]]:
    """The jobs with their statuses, and the errors of those that cannot be read: one hides no other. A job on SageMaker
    that cannot be observed is shown as it was.
    """
    found: list[Shown] = []
    errors: list[ZerotuneError] = []
    for folder in folders:
        try:
            job = folder.read_job()
            if job.spec.backend.sagemaker is None:
                found.append(Shown(folder, job, true_status(folder, now)))
                continue
            shown, error = _observed(folder, job, home)
            found.append(shown)
            errors += [error] if error else []
        except ZerotuneError as error:
            errors.append(error)
    return found, errors


def _observed(folder: JobFolder, job: Job, home: Home) -> tuple[Shown, ZerotuneError | None]:
    """A job on SageMaker, observed without a process here; where AWS does not answer, as it was, and why."""
    from zerotune_operator.backends.sagemaker.standalone import refresh  # boto3 takes time to import.

    try:
        return Shown(folder, job, asyncio.run(refresh(folder, home))), None
    except ZerotuneError as error:
        status, seen_at = folder.read_status(), folder.status_written_at()
        seen_at = unknown_since(status) or seen_at
        if under_way(status) or is_passing(status):
            status = unobserved(status, cause_of(error), seen_at)  # An earlier outage is no news any more.
        return Shown(folder, job, status, seen_at), error


def true_status(folder: JobFolder, now: datetime) -> JobStatus:
    """The status that was written last, corrected where the process that wrote it has ended."""
    running = folder.is_running()  # asked before the status is read: a job that ends in between has written it
    status = folder.read_status()
    return status if running else abandoned(status, now)


def _resource(job: Job, status: JobStatus) -> dict[str, Any]:
    given = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return given | {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}


def _list(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": resources}


def _data(value: dict[str, Any], output: str) -> str:
    if output == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n")
