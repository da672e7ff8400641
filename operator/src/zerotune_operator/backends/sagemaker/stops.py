"""Stops of a job's training jobs, and which of them zerotune has asked for.

SageMaker does not say who has stopped a training job. Once it has accepted a stop that zerotune asks for, an object
beside the files of the attempt says so; one that is stopped without it was stopped by somebody else.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.sagemaker.layout import job_name, sagemaker_of, stop_uri
from zerotune_operator.backends.sagemaker.training_job_owner import is_own
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_trainer.errors import ZerotuneError

_logger = logging.getLogger(__name__)


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

    async def was_asked_for(self, attempt: int) -> bool:
        """Whether zerotune has asked for the stop of an attempt, from whichever machine; so does a job that is to be
        suspended.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        return self._job.spec.run_policy.suspend or await self._client.read(stop_uri(self._job, attempt)) is not None

    async def _note(self, attempt: int) -> None:
        """Write down that the stop was asked for. It has been: what S3 says of it is no reason to ask again."""
        time, key = datetime.now(UTC).isoformat(timespec="seconds"), sagemaker_of(self._job).output_kms_key_id
        try:
            await self._client.write(stop_uri(self._job, attempt), time.encode(), key)
        except ZerotuneError as error:
            name = job_name(self._job, attempt)
            _logger.warning("%s is stopped, and will count as stopped by somebody else: %s", name, error.message)
