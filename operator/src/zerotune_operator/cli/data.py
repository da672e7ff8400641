"""`zerotune data preview FILE` and `zerotune data prepare FILE OUT`: a job's records without training."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from zerotune_operator.api.jobs import FineTuneJob
from zerotune_operator.api.load import load_jobs
from zerotune_operator.api.origins import record_origins, starting_from
from zerotune_operator.backends.model_shape import model_shape
from zerotune_operator.backends.registry import BACKENDS, Target
from zerotune_operator.plan import DoesNotFitError, Plan, identity_of, plan_job
from zerotune_operator.plan.outputs import reading_output
from zerotune_trainer.config.packages import is_installed
from zerotune_trainer.errors import ConfigurationError, DataError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)

File = Annotated[Path, typer.Argument(help="Manifest with a FineTuneJob.")]
Name = Annotated[str | None, typer.Option("--job", help="Which FineTuneJob, where the file has several.")]
First = Annotated[int | None, typer.Option(min=1, help="Take no more than so many records of each split.")]


@app.callback()
def _group() -> None:
    """Look at a job's records as the model will see them, or write them as rows."""


@app.command()
def preview(
    file: File,
    job: Name = None,
    first: First = None,
    rows: Annotated[int, typer.Option(min=0, help="How many rows of each split are shown.")] = 3,
) -> None:
    """Show what the model will see: decoded rows, which tokens count in the loss, lengths, what was skipped and why."""
    _run(_job(file, job), "preview", first, "--rows", str(rows))


@app.command()
def prepare(
    file: File,
    out: Annotated[str, typer.Argument(help="Folder to write: a path, file:// or s3://.")],
    job: Name = None,
    first: First = None,
) -> None:
    """Write the records of a job, processed and tokenized, as a folder that a job can train from."""
    _run(_job(file, job), "prepare", first, out)


def _job(file: Path, name: str | None) -> FineTuneJob:
    jobs = [job for job in load_jobs(file) if isinstance(job, FineTuneJob) and name in (None, job.metadata.name)]
    if len(jobs) != 1:
        which = f"FineTuneJobs named {name}" if name else "FineTuneJobs"
        raise ConfigurationError(f"{file} has {len(jobs)} {which}, and the command is for one", "name it with --job")
    return jobs[0]


def _run(job: FineTuneJob, action: str, first: int | None, *arguments: str) -> None:
    """Let the trainer do it, with the configuration that the job's ranks would get on this machine."""
    if not is_installed("transformers"):
        raise ConfigurationError(
            "the trainer's packages are not installed here", "run `pip install 'zerotune-trainer[train]'`"
        )
    options = [] if first is None else ["--first", str(first)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(plan_here(job).artifacts()["config.json"])
        done = Path(folder) / "done"
        command = (sys.executable, "-m", "zerotune_trainer.data", action, folder, *arguments, "--done", str(done))
        code = subprocess.run((*command, *options), check=False).returncode
        if code <= 0 and not done.exists():
            raise DataError(
                f"the process that reads the records ended before it was done, with exit code {code}",
                "see that the functions of `plugin` do not end their process; exit code -9 is mostly a lack of memory",
            )
    if code:
        raise typer.Exit(code)


def plan_here(job: FineTuneJob) -> Plan:
    """What the job would be on this machine. Neither its GPUs nor its memory need be here."""
    here = BACKENDS[Target.LOCAL]
    started = starting_from(job, {origin.part: here.output_of(origin) for origin in record_origins(job)})
    uri = here.model_uri(started)
    with reading_output(job, uri):
        shape = model_shape(uri, job.spec.model.revision)
    try:
        return plan_job(started, shape, here.outline(job, uri), identity_of(job))
    except DoesNotFitError as error:
        return error.plan
