"""Training jobs that SageMaker does not know, or that are being deleted. Pure."""

from __future__ import annotations

from datetime import datetime

from zerotune_operator.backends.sagemaker.layout import is_of_a_run
from zerotune_operator.lifecycle.observation import AttemptRef, NodeObservation, Observation
from zerotune_trainer.errors import Failure, KilledError


def not_found(attempt: AttemptRef, name: str, since: datetime, patience: float) -> Failure:
    """What is wrong with a training job that SageMaker does not know, and that does not count as deleted yet.

    Args:
        attempt: Its attempt.
        name: Its name.
        since: Since when it has been so.
        patience: For how many seconds it has to be.
    """
    return Failure(
        failure_class="NotFound",
        message=f"SageMaker knows no training job {name}, since {since:%Y-%m-%dT%H:%M:%SZ}: once a process that "
        f"follows the job has missed it for {patience:.0f} s, it counts as deleted, and the next attempt starts",
        hint=f"{how_to_stop(attempt)}: what is deleted is started again",
        exit_code=KilledError.exit_code,
    )


def deleted(attempt: AttemptRef, message: str) -> Observation:
    """An attempt whose training job is there no more."""
    failure = Failure(
        failure_class="Deleted",
        message=message,
        hint=f"{how_to_stop(attempt)}: what is deleted is started again",
        exit_code=KilledError.exit_code,
    )
    nodes = (NodeObservation(host, "ended", failure.exit_code, failure=failure) for host in attempt.hosts)
    return Observation(attempt.number, tuple(nodes))


def how_to_stop(attempt: AttemptRef) -> str:
    """In the words of what the job was started with: the command line, or a cluster."""
    return f"to stop a job {'use `zerotune stop`' if is_of_a_run(attempt.job_uid) else 'set runPolicy.suspend'}"
