"""`zerotune run FILE`: run the jobs of a file on this machine or on SageMaker, one after the other."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from zerotune_operator.api.jobs import Job, Metadata
from zerotune_operator.api.load import load_jobs
from zerotune_operator.api.status import JobStatus, cause_of
from zerotune_operator.backends.chain import Placed, check_chain
from zerotune_operator.backends.local.admit import admit, new_job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.inputs import check_inputs
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.local.output import complete_output, require_own_output
from zerotune_operator.backends.local.runner import Runner
from zerotune_operator.backends.registry import BACKENDS, Target, run_backend
from zerotune_operator.cli.conclusion import conclude
from zerotune_operator.cli.found_again import find_again
from zerotune_operator.cli.live import view_for
from zerotune_operator.lifecycle.attempts import ACTIVE, next_attempt, under_way
from zerotune_operator.lifecycle.transitions import abandoned, planned, rejected
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, StoppedError, ZerotuneError
from zerotune_trainer.manifest import MANIFEST_NAME

LEFT_EXIT_CODE = 128 + signal.SIGINT
"""Of a command that was left with Ctrl-C before its job had ended, as of any that is."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def command(
    file: Annotated[Path, typer.Argument(help="Manifest with one job or several; - for standard input.")],
    name: Annotated[str | None, typer.Option(help="Run the file's only job under this name.")] = None,
    fresh: Annotated[bool, typer.Option(help="Start over: put what is there of the job aside, whole.")] = False,
) -> None:
    """Run the jobs of a file in order, on this machine or, with backend.sagemaker, there; each goes on where an earlier
    run of it stopped.
    """
    home = Home.of_environment()
    jobs = _named(load_jobs(file), name)
    placed = [Placed(job, _target(job)) for job in jobs]
    for each in placed:
        check_chain(each, placed)
    for number, job in enumerate(jobs, start=1):
        exit_code = run_job(job, home, fresh)
        if exit_code:
            for other in jobs[number:]:
                typer.echo(f"{other.metadata.name}: not begun, since {job.metadata.name} did not succeed")
            raise typer.Exit(exit_code)


def run_job(job: Job, home: Home, fresh: bool) -> int:
    """Run one job to its end and report how it ended; returns the exit code.

    Raises:
        ZerotuneError: it cannot be started.
    """
    target = _target(job)
    BACKENDS[target].require(job)
    if job.spec.run_policy.suspend:
        return _suspend(job, home, target)
    if fresh and target is Target.SAGEMAKER:
        _require_none_runs(job)
    folder = home.create(job.kind, job.metadata.name)
    with folder.locked() as lock:
        now = datetime.now(UTC)
        if fresh or target is Target.LOCAL:
            _require_ended(folder, fresh)
        if fresh:
            job = new_job(job, now, lambda: BACKENDS[target].uid(job, True))
            return _run_anew(job, folder, home, target, lock)
        job = admit(job, folder, now, lambda: BACKENDS[target].uid(job, False))
        if target is Target.SAGEMAKER:
            return _run_on_sagemaker(job, folder, home)
        status = abandoned(folder.read_status(), now)
        if _finished(job, folder, status):
            return 0
        return _run(job, folder, home, status, lock)


def _suspend(job: Job, home: Home, target: Target) -> int:
    """Stop what runs at SageMaker of a job that is not to run.

    Raises:
        ConfigurationError: nothing of it runs there.
    """
    from zerotune_operator.cli.stop import stop  # boto3 takes time to import.

    name, remedy = job.metadata.name, "set it to false to run the job"
    if target is Target.LOCAL:
        is_running = home.job(job.kind, name).is_running()
        remedy = "press Ctrl-C where `zerotune run` runs it" if is_running else remedy
    else:
        with suppress(InputMissingError):
            if stop(find_again(job, home), home):
                return StoppedError.exit_code
    raise ConfigurationError(f"{name}: runPolicy.suspend is true", remedy)


def _run_anew(job: Job, folder: JobFolder, home: Home, target: Target, lock: int) -> int:
    """Run a job in the place of the one that its folder holds, which is moved away once this one may run."""
    make_room = partial(_put_aside, folder, home)
    if target is Target.SAGEMAKER:
        return _follow_on_sagemaker(job, folder, home, make_room)
    return _run(job, folder, home, JobStatus(), lock, make_room)


def _target(job: Job) -> Target:
    return Target.LOCAL if job.spec.backend.sagemaker is None else Target.SAGEMAKER


def _run_on_sagemaker(job: Job, folder: JobFolder, home: Home) -> int:
    from zerotune_operator.cli.run_sagemaker import has_output, known_status  # boto3 takes time to import.

    status = known_status(job, folder, home)
    if status.phase == "Succeeded" and status.output is not None:
        if has_output(job, status, home):
            _say_finished(job, folder, status.output.uri)
            return 0
        _say_incomplete(folder, status.output.uri)
    return _follow_on_sagemaker(job, folder, home, None)


def _follow_on_sagemaker(job: Job, folder: JobFolder, home: Home, make_room: Callable[[], None] | None) -> int:
    # boto3 takes time to import.
    from zerotune_operator.backends.sagemaker.execution_role import with_role
    from zerotune_operator.cli.run_sagemaker import run_on_sagemaker, say_left

    status = run_on_sagemaker(with_role(job), folder, home, make_room)
    if under_way(status) or status.phase in ACTIVE:
        say_left(folder, status)
        return LEFT_EXIT_CODE
    return conclude(status, folder, f"`zerotune logs {folder.name}`")


def _require_none_runs(job: Job) -> None:
    from zerotune_operator.cli.run_sagemaker import require_none_runs  # As above.

    require_none_runs(job)


def _put_aside(folder: JobFolder, home: Home) -> None:
    if (folder.path / "job.yaml").is_file():
        place = home.put_aside(folder, datetime.now(UTC))
        typer.echo(f"{folder.name}: what was there is now in {place}")


def _require_ended(folder: JobFolder, fresh: bool) -> None:
    """See that no training job goes on of what a folder holds, before another job takes its place, or it goes on here.
    What is damaged is replaced by a fresh job, whatever it was.
    """
    try:
        if not (folder.path / "job.yaml").is_file() or folder.read_job().spec.backend.sagemaker is None:
            return
        from zerotune_operator.cli.run_sagemaker import require_ended  # As above.

        require_ended(folder)
    except DataError:
        if not fresh:
            raise


def _finished(job: Job, folder: JobFolder, status: JobStatus) -> bool:
    if status.phase != "Succeeded" or status.output is None or status.plan is None:
        return False
    if complete_output(status.output.uri, job.metadata.uid, status.plan.config_digest or "") is None:
        _say_incomplete(folder, status.output.uri)
        return False
    _say_finished(job, folder, status.output.uri)
    return True


def _say_finished(job: Job, folder: JobFolder, output: str) -> None:
    changed = "" if job.spec == folder.read_job().spec else "; what has changed in its file since has no effect"
    typer.echo(f"{folder.name}: finished already, there is nothing to do; its output is {output}{changed}")


def _say_incomplete(folder: JobFolder, output: str) -> None:
    """Say why a job that has succeeded runs again."""
    typer.echo(
        f"{folder.name}: finished already, but {output} is no longer complete: its {MANIFEST_NAME}, or a file that it "
        "names, is missing or of another job; the next attempt makes it again"
    )


def _run(
    job: Job, folder: JobFolder, home: Home, status: JobStatus, lock: int, make_room: Callable[[], None] | None = None
) -> int:
    backend = run_backend(job, folder, home, lock)
    inputs = asyncio.run(backend.find_inputs(status))
    plan = backend.plan(inputs, next_attempt(status))  # What cannot run is rejected before any write.
    check_inputs(job)
    require_own_output(job)
    if make_room is not None:
        make_room()
    folder.write_job(job)
    status = planned(status, plan.summary(), datetime.now(UTC))
    view = view_for(job.metadata.name)
    try:
        status = asyncio.run(_interruptible(Runner(job, folder, backend, view), status))
    except ZerotuneError as error:
        folder.write_status(rejected(folder.read_status(), cause_of(error), datetime.now(UTC)))
        raise
    finally:
        view.close()
    return conclude(status, folder, str(folder.path / f"attempt-{status.attempts[-1].number}"))


async def _interruptible(runner: Runner, status: JobStatus) -> JobStatus:
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        # SIGTERM may come twice at once: timeout(1) sends it to its process and to the group.
        ask = partial(runner.ask_to_stop, again_kills=number == signal.SIGINT)
        loop.add_signal_handler(number, ask)
    return await runner.run(status)


def _named(jobs: list[Job], name: str | None) -> list[Job]:
    if name is None:
        return jobs
    if len(jobs) != 1:
        raise ConfigurationError(f"--name is for a file with one job, this one has {len(jobs)}", "leave --name out")
    metadata = jobs[0].metadata.model_dump(by_alias=True, exclude_unset=True) | {"name": name}
    return [jobs[0].model_copy(update={"metadata": Metadata.model_validate(metadata)})]
