"""Stops of a job's training jobs, and which of them zerotune has asked for.

SageMaker does not say who has stopped a training job. Once it has accepted a stop that zerotune asks for, an object
beside the files of the attempt says so; one that is stopped without it was stopped by somebody else. Of an attempt that
waits to be started, the object says that it is not to be; it is empty once the job is run again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.sagemaker.layout import claim_uri, job_name, sagemaker_of, stop_uri
from zerotune_operator.backends.sagemaker.output_claim import claim_of
from zerotune_operator.backends.sagemaker.training_job_owner import is_own
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.lifecycle.attempts import current_attempt, next_attempt
from zerotune_trainer.errors import ZerotuneError

_logger = logging.getLogger(__name__)


RUNNING = frozenset({"InProgress", "Stopping"})
"""Values of `TrainingJobStatus` of one that runs."""


class Stopped(NamedTuple):
    """What was found of the newest training jobs of a job when they were to be stopped."""

    states: set[str]
    """The `TrainingJobStatus` that they had."""
    unseen: str | None
    """Name of one that may have been created, and that SageMaker has yet to show: it cannot be stopped before. None
    where there is none, or where it has been unknown for so long that it counts as deleted."""


class Stops:
    """Stops the training jobs of a job.

    Args:
        job: The job.
        training_jobs: What is known of training jobs.
    """

    def __init__(self, job: Job, training_jobs: TrainingJobs) -> None:
        self._job, self._training_jobs, self._client = job, training_jobs, training_jobs.client

    async def stop(self, attempt: int) -> str | None:
        """Have SageMaker stop the training job of an attempt, where there is one that runs: its ranks have two minutes
        to save.

        Returns:
            The `TrainingJobStatus` that it had; None where the attempt has no training job.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        name = job_name(self._job, attempt)
        description = await self._training_jobs.describe(name)
        if description is None or not is_own(description, self._job, attempt):
            return None
        found = str(description["TrainingJobStatus"])
        if found == "InProgress":
            await self._client.stop(name)
            self._training_jobs.expire(name)
            await self._note(attempt)
        return found

    async def stop_newest(self, status: JobStatus) -> Stopped:
        """Stop the newest training job of a job, recorded or not.

        Args:
            status: What is known of the job.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        attempts = sorted({current_attempt(status), next_attempt(status)})
        states = {state for attempt in attempts if (state := await self.stop(attempt)) is not None}
        return Stopped(states, None if states & RUNNING else await self._unseen(attempts, status))

    async def _unseen(self, attempts: Sequence[int], status: JobStatus) -> str | None:
        """A training job that may have been created, and that SageMaker has yet to show."""
        for attempt in attempts:
            name = job_name(self._job, attempt)
            if not self._training_jobs.may_appear(name):
                continue
            recorded = next((each for each in status.attempts if each.number == attempt), None)
            if recorded.training_job_arn is None if recorded else await self._claims(name):
                return name
        return None

    async def _claims(self, name: str) -> bool:
        """Whether a training job has claimed the output of the job, as it does before it is created, and was not
        rejected.
        """
        claim = claim_of(await self._client.read_versioned(claim_uri(self._job)))
        return claim is not None and claim.training_job_name == name and not claim.rejected

    async def was_asked_for(self, attempt: int) -> bool:
        """Whether zerotune has asked for the stop of an attempt, from whichever machine; so does a job that is to be
        suspended.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        return self._job.spec.run_policy.suspend or bool(await self._client.read(stop_uri(self._job, attempt)))

    async def hold(self, attempt: int) -> None:
        """Have no process start an attempt that waits to be started, until the job is run again.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        await self._write(attempt, datetime.now(UTC).isoformat(timespec="seconds"))

    async def release(self, attempt: int) -> None:
        """Let an attempt be started again.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        if await self._client.read(stop_uri(self._job, attempt)):
            await self._write(attempt, "")

    async def holds(self, attempt: int) -> bool:
        """Whether an attempt is not to be started, as somebody has stopped the job before there was a training job.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        if not await self._client.read(stop_uri(self._job, attempt)):
            return False
        return await self._training_jobs.describe(job_name(self._job, attempt)) is None

    async def _write(self, attempt: int, text: str) -> None:
        key = sagemaker_of(self._job).output_kms_key_id
        await self._client.write(stop_uri(self._job, attempt), text.encode(), key)

    async def _note(self, attempt: int) -> None:
        """Write down that the stop was asked for. It has been: what S3 says of it is no reason to ask again."""
        try:
            await self.hold(attempt)
        except ZerotuneError as error:
            name = job_name(self._job, attempt)
            _logger.warning("%s is stopped, and will count as stopped by somebody else: %s", name, error.message)
