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

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.load import load_jobs
from zerotune_operator.api.status import JobStatus, OutputSummary, RootCause, cause_of, duration
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.cli.found_again import find_again
from zerotune_operator.lifecycle.attempts import under_way
from zerotune_operator.lifecycle.conditions import unknown_since
from zerotune_operator.lifecycle.transitions import abandoned, unobserved
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import TemporaryError, ZerotuneError

_COLUMNS = ("NAME", "KIND", "METHOD", "NODES", "PHASE", "STEP", "LOSS", "TOKENS/S", "ETA", "AGE")
_INDENT = 16
"""Column where the values of a described job begin."""


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
        resources = [_resource(job, status) for _, job, status in found]
        typer.echo(_data(resources[0] if (name or file) and len(resources) == 1 else _list(resources), output))
    elif name is None and file is None:
        typer.echo(
            _table(_COLUMNS, [_row(job, status, now) for _, job, status in found])
            if found
            else f"no jobs in {home.path}"
        )
    else:
        typer.echo("\n\n".join(_describe(*entry) for entry in found))
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


def _read(
    folders: Sequence[JobFolder], home: Home, now: datetime
) -> tuple[list[tuple[JobFolder, Job, JobStatus]], list[ZerotuneError]]:
    """The jobs with their statuses, and the errors of those that cannot be read: one hides no other. A job on SageMaker
    that cannot be observed is shown as it was.
    """
    found: list[tuple[JobFolder, Job, JobStatus]] = []
    errors: list[ZerotuneError] = []
    for folder in folders:
        try:
            job = folder.read_job()
            if job.spec.backend.sagemaker is None:
                found.append((folder, job, true_status(folder, now)))
                continue
            status, error = _observed(folder, home)
            found.append((folder, job, status))
            errors += [error] if error else []
        except ZerotuneError as error:
            errors.append(error)
    return found, errors


def _observed(folder: JobFolder, home: Home) -> tuple[JobStatus, ZerotuneError | None]:
    """The status of a job on SageMaker, without a process here; where AWS does not answer, the last one, and why."""
    from zerotune_operator.backends.sagemaker.standalone import refresh  # boto3 takes time to import.

    try:
        return asyncio.run(refresh(folder, home)), None
    except ZerotuneError as error:
        status = folder.read_status()
        if isinstance(error, TemporaryError) and under_way(status):
            status = unobserved(status, cause_of(error), folder.status_written_at())
        return status, error


def true_status(folder: JobFolder, now: datetime) -> JobStatus:
    """The status that was written last, corrected where the process that wrote it has ended."""
    running = folder.is_running()  # asked before the status is read: a job that ends in between has written it
    status = folder.read_status()
    return status if running else abandoned(status, now)


def _row(job: Job, status: JobStatus, now: datetime) -> tuple[str, ...]:
    shown = status.display
    created = datetime.fromisoformat(str(job.metadata.model_dump(by_alias=True)["creationTimestamp"]))
    return (
        job.metadata.name,
        job.kind,
        job.spec.method if isinstance(job, FineTuneJob) else job.spec.engine,
        str(job.spec.topology.replicas * job.spec.topology.nodes),
        status.phase or "Pending",
        (shown and shown.step) or "",
        (shown and shown.loss) or "",
        (shown and shown.tokens_per_second) or "",
        (shown and shown.eta) or "",
        duration(now - created),
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def _describe(folder: JobFolder, job: Job, status: JobStatus) -> str:
    facts = {
        "Name": job.metadata.name,
        "Kind": job.kind,
        "Phase": _phase(status),
        "Folder": str(folder.path),
        "Training job": _training_job(status),
        "Instance type": (status.plan and status.plan.instance_type) or "",
        "Step": status.display.step if status.display else "",
        "Loss": (status.display and status.display.loss) or "",
        "Control": (status.display and status.display.control_perplexity) or "",
        "Texts": _generation(status),
        "Failed records": _failed_records(status),
        "Output": _output(status.output) if status.output else "",
        "Warning": f"\n{'':{_INDENT}}".join((status.progress and status.progress.warnings) or []),
        "Root cause": _cause(status.root_cause) if status.root_cause else "",
        "Suspended": _stopped(status),
    }
    lines = [f"{fact + ':':<{_INDENT}}{value}" for fact, value in facts.items() if value]
    return "\n".join([*lines, *_topology(status), *_attempts(status)])


def _phase(status: JobStatus) -> str:
    """With when it was so, where nobody knows what it is now."""
    phase, since = status.phase or "Pending", unknown_since(status)
    return phase if since is None else f"{phase} at {since:%Y-%m-%dT%H:%M:%SZ}, when it was observed last"


def _stopped(status: JobStatus) -> str:
    """What a job that is stopped has kept, and who has stopped it where it was not zerotune."""
    messages = [found.message for found in status.conditions if found.type == "Suspended"]
    return next(iter(messages), "") if status.phase == "Suspended" else ""


def _training_job(status: JobStatus) -> str:
    """Name and region of the newest one, on SageMaker."""
    arn = status.attempts[-1].training_job_arn if status.attempts else None
    if arn is None:
        return ""
    _, _, _, region, _, resource = arn.split(":", 5)
    return f"{resource.partition('/')[2]} in {region}"


def _generation(status: JobStatus) -> str:
    """Metrics of the texts generated at the last evaluation."""
    figures = (status.progress and status.progress.generation) or {}
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _failed_records(status: JobStatus) -> str:
    """How many records of an InferenceJob have an error instead of an answer, none included; empty for training."""
    failed = status.progress.failed_records if status.progress else None
    return "" if failed is None else str(failed)


def _output(output: OutputSummary) -> str:
    return f"{output.uri} ({counted(output.files, 'file')}, {counted(output.bytes, 'byte')})"


def _cause(cause: RootCause) -> str:
    place = ", ".join(
        part
        for part in (
            f"rank {cause.rank}" if cause.rank is not None else "",
            f"host {cause.host}" if cause.host else "",
            f"step {cause.step}" if cause.step is not None else "",
        )
        if part
    )
    hint = f"\n{'':{_INDENT}}hint: {cause.hint}" if cause.hint else ""
    return f"{cause.failure_class}{f' ({place})' if place else ''}: {cause.message}{hint}"


def _topology(status: JobStatus) -> list[str]:
    rows = [
        (node.host, node.hostname, f"{node.first_rank}-{node.first_rank + node.ranks - 1}", node.device)
        for node in status.topology
    ]
    return ["", _table(("HOST", "HOSTNAME", "RANKS", "DEVICE"), rows)] if rows else []


def _attempts(status: JobStatus) -> list[str]:
    rows = [
        (
            str(attempt.number),
            attempt.outcome,
            attempt.failure_class or "",
            _steps(attempt.first_step, attempt.last_step),
            attempt.start_time.isoformat(timespec="seconds") if attempt.start_time else "",
            duration(attempt.end_time - attempt.start_time) if attempt.start_time and attempt.end_time else "",
        )
        for attempt in status.attempts
    ]
    table = _table(("ATTEMPT", "OUTCOME", "CLASS", "STEPS", "STARTED", "TOOK"), rows)
    restarted = [
        f"Attempt {attempt.number}: {counted(attempt.replica_restarts, 'restart')} of replicas; the last: "
        f"{attempt.replica_failure}"
        for attempt in status.attempts
        if attempt.replica_restarts
    ]
    return ["", table, *restarted] if rows else []


def _steps(first: int | None, last: int | None) -> str:
    if last is None:
        return ""
    return str(last) if first is None else f"{first}-{last}"


def _resource(job: Job, status: JobStatus) -> dict[str, Any]:
    given = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return given | {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}


def _list(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": resources}


def _data(value: dict[str, Any], output: str) -> str:
    if output == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n")
