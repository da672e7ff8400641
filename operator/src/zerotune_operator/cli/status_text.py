"""The text of `zerotune status`: a table of jobs, and all that is known of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.status import JobStatus, OutputSummary, RootCause, duration
from zerotune_operator.backends.local.admit import created
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.lifecycle.attempts import ACTIVE, under_way
from zerotune_trainer.counting import counted

_COLUMNS = ("NAME", "KIND", "METHOD", "NODES", "PHASE", "STEP", "LOSS", "TOKENS/S", "ETA", "AGE")
_INDENT = 16
"""Column where the values of a described job begin."""


class Shown(NamedTuple):
    """A job that is shown."""

    folder: JobFolder
    job: Job
    status: JobStatus
    seen_at: datetime | None = None
    """When it was observed last, where that is not now, as what runs it does not answer."""


def table_of(found: Sequence[Shown], now: datetime) -> str:
    """A line for each job."""
    return _table(_COLUMNS, [_row(each, now) for each in found])


def _row(found: Shown, now: datetime) -> tuple[str, ...]:
    job, status = found.job, found.status
    shown = status.display
    return (
        job.metadata.name,
        job.kind,
        job.spec.method if isinstance(job, FineTuneJob) else job.spec.engine,
        str(job.spec.topology.replicas * job.spec.topology.nodes),
        _phase(found),
        (shown and shown.step) or "",
        (shown and shown.loss) or "",
        (shown and shown.tokens_per_second) or "",
        (shown and shown.eta) or "",
        duration(now - created(job)),
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def described(found: Shown) -> str:
    """All that is known of a job."""
    folder, job, status, _ = found
    facts = {
        "Name": job.metadata.name,
        "Kind": job.kind,
        "Phase": f"{_phase(found)}{_followed_by_none(found)}",
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


def _phase(found: Shown) -> str:
    """With when it was so, where nobody knows what it is now."""
    phase = found.status.phase or "Pending"
    return (
        phase if found.seen_at is None else f"{phase} at {found.seen_at:%Y-%m-%dT%H:%M:%SZ}, when it was observed last"
    )


def _followed_by_none(found: Shown) -> str:
    """What becomes of a job on SageMaker whose next attempt nobody here is to start."""
    status, phases = found.status, ACTIVE | {"Pending"}
    if found.job.spec.backend.sagemaker is None or status.phase not in phases or under_way(status):
        return ""
    if found.folder.is_running():
        return ""
    return "; no process of this machine follows it: run it again to start the next attempt"


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
