"""What `zerotune run` does with a job for SageMaker: start it there, and follow it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import typer

from zerotune_operator.api.backend import CHANGEABLE
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.problems import find_changes
from zerotune_operator.api.status import JobStatus, cause_of
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.local.admit import created_at, result_changes
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.follower import Follower
from zerotune_operator.backends.sagemaker.standalone import (
    catch_up,
    known_uid,
    running_training_job,
    standalone_backend,
)
from zerotune_operator.cli.live import LiveView, PlainView, view_for
from zerotune_operator.lifecycle.attempts import ACTIVE, next_attempt, under_way
from zerotune_operator.lifecycle.transitions import planned, rejected
from zerotune_trainer.errors import ConfigurationError, ZerotuneError

MakeRoom = Callable[[], None]
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_on_sagemaker(job: Job, folder: JobFolder, home: Home, make_room: MakeRoom | None = None) -> JobStatus:
    """Start a job whose folder is locked, or find it where it runs already, and follow it to its end or until Ctrl-C.

    Args:
        job: The job.
        folder: Its folder.
        home: Where the jobs of this machine are.
        make_room: Puts what the folder holds of another job aside; None: what it holds is this job's.

    Raises:
        ZerotuneError: it cannot be started, or cannot go on.
    """
    backend = standalone_backend(job, home)
    return asyncio.run(_run(job, folder, backend, make_room))


def known_status(job: Job, folder: JobFolder, home: Home) -> JobStatus:
    """What is known of a job that its folder holds. One that was under way when anybody looked last may have ended: it
    is observed where it may run on only as it was, and the spec is another one now.

    Raises:
        ZerotuneError: AWS does not answer.
    """
    status = folder.read_status()
    if not under_way(status) or not _has_another_backend(job, folder.read_job()):
        return status
    return asyncio.run(catch_up(folder, standalone_backend(folder.read_job(), home), status))


def has_output(job: Job, status: JobStatus, home: Home) -> bool:
    """Whether the output of a job that has succeeded is there still.

    Raises:
        ConfigurationError, TemporaryError: AWS does not answer, so that nobody knows.
    """
    return asyncio.run(standalone_backend(job, home).has_output(status))


async def _run(job: Job, folder: JobFolder, backend: SageMakerBackend, make_room: MakeRoom | None) -> JobStatus:
    status = JobStatus() if make_room else folder.read_status()
    if under_way(status):
        take_over(job, folder)
    else:
        try:
            status = await begin(job, folder, backend, status, make_room)
        except ConfigurationError as error:
            if make_room is None:
                _note(job, folder, error)
            raise
    view = view_for(job.metadata.name)
    follower = Follower(job, folder, backend, view)
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, partial(_leave, follower, view, number))
    try:
        return await follower.follow(status)
    except ZerotuneError as error:
        written = folder.read_status()
        if not under_way(written):  # Else the training job goes on, whatever AWS rejects now.
            folder.write_status(rejected(written, cause_of(error), datetime.now(UTC)))
        raise
    finally:
        view.close()


def _note(job: Job, folder: JobFolder, error: ConfigurationError) -> None:
    """Write down why a job that is known already does not go on; what is wrong with a changed spec is no fact of it."""
    if (folder.path / "job.yaml").is_file() and not result_changes(folder.read_job(), job):
        folder.write_status(folder.read_status().model_copy(update={"root_cause": cause_of(error)}))


def _leave(follower: Follower, view: PlainView | LiveView, number: signal.Signals) -> None:
    """Leave; with Ctrl-C once more, at once: a process may end between any two calls, and the next one goes on."""
    if follower.leaves and number == signal.SIGINT:  # SIGTERM may come twice: to a process and to its group.
        view.close()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    follower.leave()


def require_none_runs(job: Job) -> None:
    """See that no training job of a job runs, whichever machine has started it, before another one begins beside it.

    Raises:
        ConfigurationError: one does.
        TemporaryError: AWS does not answer.
    """
    metadata = job.metadata.model_copy(update={"uid": asyncio.run(known_uid(job))})
    running = asyncio.run(running_training_job(job.model_copy(update={"metadata": metadata}), 0))
    if running is not None:
        raise ConfigurationError(
            f"{job.metadata.name} has a training job on SageMaker that has not ended: {running}",
            f"run its file without --fresh to follow it, then `zerotune stop {job.metadata.name}`; or give this job "
            "another output.uri",
        )


def require_ended(folder: JobFolder) -> None:
    """See that no training job goes on of the job that a folder holds, whatever is written there: one may have ended
    since, and one may have been created by a process which ended before it could write that down.

    Raises:
        ConfigurationError: one does.
        DataError: the folder is damaged.
        TemporaryError: AWS does not answer.
    """
    job, status = folder.read_job(), folder.read_status()
    if status.phase not in ACTIVE:
        return
    first = status.attempts[-1].number if under_way(status) else next_attempt(status)
    running = asyncio.run(running_training_job(job, first))
    if running is not None:
        raise ConfigurationError(
            f"{folder.name} has a training job on SageMaker that has not ended: {running}", _stop_first(folder)
        )


def _stop_first(folder: JobFolder) -> str:
    return (
        f"stop it first: `zerotune stop {folder.name}`; `zerotune status {folder.name}` shows when it has ended; or "
        "give this job another name (`--name`)"
    )


async def begin(
    job: Job, folder: JobFolder, backend: SageMakerBackend, status: JobStatus, make_room: MakeRoom | None = None
) -> JobStatus:
    """Write a job down whose run begins, or was begun by another machine; answers its status.

    Args:
        job: The job.
        folder: Its folder.
        backend: Runs its attempts.
        status: What is known of it.
        make_room: As above.

    Raises:
        ZerotuneError: it cannot run, or its output is another job's. Nothing is written or moved then.
    """
    inputs = await backend.find_inputs(status)
    assert isinstance(inputs, Inputs), "without a cluster nothing is waited for"
    plan = backend.plan(inputs, next_attempt(status))
    backend.render(plan)
    await backend.creation.require_own_output()
    await backend.creation.require_same_spec(plan)
    if make_room is not None:
        make_room()
    elif status.phase is not None:
        await backend.stops.release(next_attempt(status))
    if not (folder.path / "job.yaml").is_file() and (created := await backend.creation.first_created_at()):
        job = created_at(job, created)  # Another machine has begun it.
    folder.write_job(job)
    status = planned(status, plan.summary(), datetime.now(UTC))
    folder.write_status(status)
    return status


def take_over(job: Job, folder: JobFolder) -> None:
    """Keep the spec of a job that runs, as far as it may change meanwhile: the instances have what it was.

    Raises:
        ConfigurationError: more than that changed.
    """
    known = folder.read_job()
    if changed := result_changes(known, job):
        raise ConfigurationError(
            f"{folder.name} runs on SageMaker, and its spec has changed since: {'; '.join(changed)}",
            f"run it as it was, or stop it first, `zerotune stop {folder.name}`; a job with another result takes "
            "another output.uri, and another name, or --fresh once this one has ended",
        )
    if _has_another_backend(job, known):
        changeable = " and ".join(sorted(CHANGEABLE))
        raise ConfigurationError(
            f"{folder.name} runs on SageMaker, and more of its backend has changed than {changeable}",
            f"stop it first, `zerotune stop {folder.name}`, or run it as it was",
        )
    folder.write_job(job)


def _has_another_backend(job: Job, known: Job) -> bool:
    """Whether more of a backend differs than may change while a job runs."""
    changes = find_changes(type(job.spec), job.spec, known.spec, ("spec",))
    return any(problem.path == ("spec", "backend") for problem in changes)


def say_left(folder: JobFolder, status: JobStatus) -> None:
    """Say what becomes of a job that is no longer followed."""
    if not under_way(status):
        typer.echo(f"{folder.name}: no training job of it runs at SageMaker; run it again to start one")
        return
    typer.echo(
        f"{folder.name}: goes on at SageMaker; `zerotune status {folder.name}` shows it, run it again to follow it, "
        f"`zerotune stop {folder.name}` stops it"
    )
