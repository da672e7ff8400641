"""The creation of an attempt's training job: never two of an attempt.

Its name is made of the job's uid and the number of the attempt, and SageMaker creates no second one of a name. A
creation that was accepted, and whose answer was lost, is found by its name. Whose a training job is,
`training_job_owner` says.
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.sagemaker.errors import NameInUseError, QuotaExceededError
from zerotune_operator.backends.sagemaker.layout import job_name
from zerotune_operator.backends.sagemaker.output_claim import OutputClaim
from zerotune_operator.backends.sagemaker.render import TrainingJob
from zerotune_operator.backends.sagemaker.training_job_owner import foreign, is_own
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.plan import Plan
from zerotune_trainer.config import RENDEZVOUS_FILE
from zerotune_trainer.errors import ConfigurationError, TemporaryError
from zerotune_trainer.launching.identity import DIGEST_VARIABLE


class Creation:
    """Creates the training jobs of a job, and knows those that are there.

    Args:
        job: The job.
        training_jobs: What is known of training jobs.
    """

    def __init__(self, job: Job, training_jobs: TrainingJobs) -> None:
        self._job, self._training_jobs, self._client = job, training_jobs, training_jobs.client
        self._claim = OutputClaim(job, training_jobs)

    async def require_own_output(self) -> None:
        """See that the output is not another job's.

        Raises:
            ConfigurationError: it is, or AWS rejects the question.
            TemporaryError: AWS does not answer.
        """
        await self._claim.require_free()

    async def require_same_spec(self, plan: Plan) -> None:
        """See that an attempt that runs already, started from another machine, has the spec that `plan` is made of.

        Raises:
            ConfigurationError: it has another, or its name is somebody else's.
            TemporaryError: AWS does not answer.
        """
        attempt = plan.config.job.attempt
        if not await self.has_started(attempt):
            return
        name = job_name(self._job, attempt)
        description = await self._training_jobs.describe(name)
        if description is not None and description["Environment"].get(DIGEST_VARIABLE) != plan.config.digest():
            raise ConfigurationError(
                f"there is a training job {name} of this job already, and it was started with another spec",
                "run it from the file that it was started from, or give this job another output.uri",
            )

    async def has_started(self, attempt: int) -> bool:
        """Whether there is a training job of an attempt.

        Raises:
            ConfigurationError: there is one that is somebody else's, or AWS rejects the question.
            TemporaryError: AWS does not answer.
        """
        name = job_name(self._job, attempt)
        description = await self._training_jobs.describe(name)
        if description is not None and not is_own(description, self._job, attempt):
            raise foreign(self._job, attempt)
        return description is not None

    async def first_created_at(self) -> datetime | None:
        """When the training job of the first attempt was created; None where there is none.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        description = await self._training_jobs.describe(job_name(self._job, 0))
        if description is None or not is_own(description, self._job, 0):
            return None
        created: datetime = description["CreationTime"]
        return created

    async def create(self, rendered: TrainingJob) -> None:
        """Claim the output, write the files, then create the training job. One that is there already stays as it is.

        One that is there no more, though a later attempt has claimed the output, was deleted: it is not created again.

        Raises:
            ConfigurationError: it is rejected, or its name or output is somebody else's.
            QuotaExceededError, TemporaryError: it was not created, or AWS does not answer.
        """
        if not await self._claim.take(rendered.attempt, rendered.kms_key):
            return
        await self._write_files(rendered)
        try:
            await self._client.create(rendered.request)
            self._training_jobs.created(rendered.name)
        except NameInUseError:
            await self._require_own(rendered.attempt)
        except (ConfigurationError, QuotaExceededError):
            self._training_jobs.not_created(rendered.name)
            await self._claim.reject(rendered.attempt, rendered.kms_key)
            raise
        finally:
            self._training_jobs.expire(rendered.name)

    async def _write_files(self, rendered: TrainingJob) -> None:
        """The files that its instances receive; the secret of the ranks is never replaced."""
        writes = [
            self._client.write(f"{rendered.folder}/{name}", text.encode(), rendered.kms_key)
            for name, text in rendered.files.items()
        ]
        secret = self._client.exchange(
            f"{rendered.folder}/{RENDEZVOUS_FILE}", secrets.token_hex(32).encode(), rendered.kms_key, None
        )
        await asyncio.gather(*writes, secret)

    async def _require_own(self, attempt: int) -> None:
        name = job_name(self._job, attempt)
        description = await self._client.describe(name)
        if description is None:
            raise TemporaryError(
                f"SageMaker has a training job {name}, and does not show it yet", "it is observed again"
            )
        if not is_own(description, self._job, attempt):
            raise foreign(self._job, attempt)
