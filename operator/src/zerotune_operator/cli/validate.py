"""`zerotune validate FILE...`"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import load_documents
from zerotune_operator.api.origins import require_no_ring
from zerotune_operator.backends.chain import Placed, check_chain
from zerotune_operator.backends.check import check, target_of
from zerotune_operator.backends.registry import Target
from zerotune_operator.cli.plugin_file import check_config_map
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError


def command(
    files: list[Path],
    backend: Annotated[Target | None, typer.Option(help="Check for this backend instead of the spec's.")] = None,
) -> None:
    """Check manifests against the schema and its rules, and what a backend supports; nothing is started."""
    valid: list[Placed] = []
    errors = [error for file in files for error in _errors(file, backend, valid)]
    errors += _errors_between(valid)
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors))


def _errors_between(jobs: list[Placed]) -> Iterator[ZerotuneError]:
    """Print what is wrong with jobs that start from each other."""
    checks: list[Callable[[], None]] = [partial(require_no_ring, [each.job for each in jobs])]
    checks += [partial(check_chain, each, jobs) for each in jobs]
    for check_between in checks:
        try:
            check_between()
        except ConfigurationError as error:
            typer.echo(f"error: {error}", err=True)
            yield error


def _errors(file: Path, backend: Target | None, valid: list[Placed]) -> Iterator[ZerotuneError]:
    """Print what one file holds, or what is wrong with it: one bad file does not hide the next, nor one bad job. Jobs
    with which nothing is wrong by themselves are added to `valid`.
    """
    try:
        documents = load_documents(file)
    except (ConfigurationError, InputMissingError) as error:
        typer.echo(f"error: {error}", err=True)
        yield error
        return
    for document in documents:
        if isinstance(document, dict):
            _show_other(file, document)
        else:
            yield from _errors_of_job(file, document, documents, backend or target_of(document), valid)


def _show_other(file: Path, document: dict[str, Any]) -> None:
    name = (document.get("metadata") or {}).get("name")
    typer.echo(f"{file}: not of zerotune, left alone: {document.get('kind')} {name}")


def _errors_of_job(
    file: Path, job: Job, documents: list[Job | dict[str, Any]], backend: Target, valid: list[Placed]
) -> Iterator[ZerotuneError]:
    try:
        check(job, backend)
        check_config_map(job, documents)
    except (ConfigurationError, InputMissingError) as error:
        typer.echo(f"error: {file}: {error}", err=True)
        yield error
        return
    valid.append(Placed(job, backend))
    typer.echo(f"{file}: ok, {job.kind} {job.metadata.name} on {backend.value}")
