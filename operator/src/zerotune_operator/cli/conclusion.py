"""What `zerotune run` says of a job whose run has ended, and its exit code."""

from __future__ import annotations

import typer

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.lifecycle.attempts import has_made_steps
from zerotune_trainer.errors import StoppedError


def conclude(status: JobStatus, folder: JobFolder, logs: str) -> int:
    """Report how a run ended; returns the exit code.

    Args:
        status: The job's last status.
        folder: Its folder.
        logs: Where what it printed is.
    """
    if status.phase == "Succeeded":
        assert status.output is not None
        message = next(condition.message for condition in status.conditions if condition.type == "Succeeded")
        typer.echo(f"{folder.name}: succeeded; {message}")
        return 0
    cause = status.root_cause
    if status.phase == "Suspended":
        message = next(condition.message for condition in status.conditions if condition.type == "Suspended")
        reason = f": {message}" if message else ""
        typer.echo(f"{folder.name}: stopped{reason}; {_next_run(folder.read_job(), status)}")
        return StoppedError.exit_code
    assert cause is not None
    where = f" on rank {cause.rank}" if cause.rank is not None else ""
    typer.echo(f"error: {folder.name} failed{where} ({cause.failure_class}): {cause.message}", err=True)
    typer.echo(f"  hint: {cause.hint}\n  logs: {logs}" if cause.hint else f"  logs: {logs}", err=True)
    return cause.exit_code or 1


def _next_run(job: Job, status: JobStatus) -> str:
    """What becomes of a stopped job that is run again."""
    if not has_made_steps(status):
        nothing = "made no step" if isinstance(job, FineTuneJob) else "done no record"
        return f"it has {nothing}: run it again to begin anew"
    checkpoint = job.spec.checkpoint if isinstance(job, FineTuneJob) else None
    if checkpoint and checkpoint.save_strategy == "no":
        return "run it again to begin anew: its checkpoint.saveStrategy is no"
    if checkpoint and checkpoint.resume == "never":
        return "run it again to begin anew: its checkpoint.resume is never"
    return "run it again to go on from what it has saved"
