"""`zerotune logs NAME`: what the nodes of a job printed that was run from this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_trainer.errors import ConfigurationError, InputMissingError

_FOLLOW_SECONDS = 0.3


def command(
    name: Annotated[str, typer.Argument(help="Name of the job.")],
    node: Annotated[int | None, typer.Option(min=0, help="Only this node: 0, 1, ... Default: all.")] = None,
    attempt: Annotated[int | None, typer.Option(min=0, help="This attempt: 0, 1, ... Default: the last.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
) -> None:
    """Print what the nodes of a job wrote; with several nodes, each line after its node's number. Of a job on SageMaker
    these are the last lines.
    """
    for folder in Home.of_environment().find(name):
        if folder.read_job().spec.backend.sagemaker is not None:
            _print_last_lines(folder, attempt, node, follow)
            continue
        number = _attempt(folder, attempt)
        printers = [_Printer(path, prefix) for path, prefix in _logs(folder, number, node)]
        while follow and folder.is_running() and folder.attempts()[-1] == number:
            for printer in printers:
                printer.print_new()
            time.sleep(_FOLLOW_SECONDS)
        for printer in printers:
            printer.print_new()


def _print_last_lines(folder: JobFolder, attempt: int | None, node: int | None, follow: bool) -> None:
    from zerotune_operator.backends.sagemaker.logs import last_lines  # boto3 takes time to import.

    if follow:
        raise ConfigurationError(
            "the log of a job on SageMaker is not followed", "leave --follow out, or use `aws logs tail --follow`"
        )
    for line in last_lines(folder.read_job(), folder.read_status(), attempt, node):
        typer.echo(line)


class _Printer:
    """Prints what was added to a file since the last time, by whole lines."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._offset = 0

    def print_new(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                self._offset += len(line)
                typer.echo(self._prefix + line.decode(errors="replace").rstrip("\n"))


def _attempt(folder: JobFolder, wanted: int | None) -> int:
    numbers = folder.attempts()
    if not numbers or (wanted is not None and wanted not in numbers):
        there = ", ".join(map(str, numbers)) or "none"
        asked = "" if wanted is None else f" {wanted}"
        raise InputMissingError(f"{folder.kind} {folder.name!r} has no attempt{asked} (there are: {there})")
    return numbers[-1] if wanted is None else wanted


def _logs(folder: JobFolder, attempt: int, node: int | None) -> list[tuple[Path, str]]:
    found = folder.attempt(attempt).path.glob("node-*.log")
    files = sorted(found, key=lambda path: int(path.stem.removeprefix("node-")))
    if node is None:
        return [(path, f"[{path.stem}] " if len(files) > 1 else "") for path in files]
    if node >= len(files):
        raise InputMissingError(f"attempt {attempt} has no node {node} (it has {len(files)})", "nodes count from 0")
    return [(files[node], "")]
