"""The SageMaker backend: a training job an attempt, observed by `DescribeTrainingJob` and what its hosts write to S3.

Never two training jobs of an attempt: its name is made of the job's uid and the number of the attempt, and SageMaker
creates no second one of a name. A creation that was accepted, and whose answer was lost, is found by its name. Whose a
training job is, `training_job_owner` says.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.origins import starting_from
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.reports import read_report
from zerotune_operator.backends.sagemaker.errors import NameInUseError
from zerotune_operator.backends.sagemaker.known_types import require_known_types
from zerotune_operator.backends.sagemaker.layout import attempt_uri, hosts_of, job_name, output_uri, place, sagemaker_of
from zerotune_operator.backends.sagemaker.logs import last_words
from zerotune_operator.backends.sagemaker.observe import ENDED, deleted, is_unexplained, not_found, observe, waiting
from zerotune_operator.backends.sagemaker.output_claim import OutputClaim
from zerotune_operator.backends.sagemaker.render import TrainingJob, render
from zerotune_operator.backends.sagemaker.requirements import require_sagemaker
from zerotune_operator.backends.sagemaker.settings import SageMakerSettings
from zerotune_operator.backends.sagemaker.training_job_owner import foreign, is_own
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.backends.sagemaker.update import changes_of
from zerotune_operator.lifecycle.attempts import current_attempt, has_made_steps, next_attempt
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_operator.plan import Partition, Plan, identity_of, loading, plan_job
from zerotune_trainer.config import RENDEZVOUS_FILE, Launch
from zerotune_trainer.errors import ConfigurationError, Failure, TemporaryError
from zerotune_trainer.launching.identity import DIGEST_VARIABLE
from zerotune_trainer.progress import NodeReport

FindInputs = Callable[[JobStatus], Awaitable[Inputs | Awaited]]
"""Finds what a job starts from: see `backends.base.Backend.find_inputs`."""


class SageMakerBackend:
    """Runs a job as training jobs: `zerotune_operator.backends.base.Backend`.

    Args:
        job: The job.
        training_jobs: What is known of training jobs.
        settings: What the job may do there.
        find_inputs: Finds the model and the outputs of other jobs.

    Raises:
        ConfigurationError: SageMaker does not support what the job asks for.
    """

    def __init__(
        self, job: Job, training_jobs: TrainingJobs, settings: SageMakerSettings, find_inputs: FindInputs
    ) -> None:
        require_sagemaker(job)
        require_known_types(job)
        settings.require_namespace(job.metadata.namespace)
        self._job, self._training_jobs, self._settings = job, training_jobs, settings
        self._client, self._find_inputs = training_jobs.client, find_inputs
        self._claim = OutputClaim(job, training_jobs)

    async def find_inputs(self, status: JobStatus) -> Inputs | Awaited:
        """See Backend."""
        inputs = await self._find_inputs(status)
        return inputs if isinstance(inputs, Awaited) else inputs._replace(partition=_written(self._job, status))

    def plan(self, inputs: Inputs, attempt: int) -> Plan:
        """The plan of an attempt.

        Raises:
            ConfigurationError: the job cannot run here.
        """
        job = starting_from(self._job, inputs.data_uris)
        plan = plan_job(job, inputs.shape, place(job, inputs.model_uri), identity_of(job, attempt))
        return loading(plan, inputs.partition)

    def render(self, plan: Plan) -> TrainingJob:
        """The training job of the attempt that `plan` is for."""
        return render(plan, self._job, self._settings)

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

    async def apply(self, rendered: TrainingJob) -> None:
        """Claim the output, write the files, then create the training job. One that is there already stays as it is.

        Raises:
            ConfigurationError: it is rejected, or its name or output is somebody else's.
            QuotaExceededError, TemporaryError: it was not created, or AWS does not answer.
        """
        await self._claim.take(rendered.name, rendered.kms_key)
        files = {name: text.encode() for name, text in rendered.files.items()}
        writes = [
            self._client.write(f"{rendered.folder}/{name}", content, rendered.kms_key)
            for name, content in files.items()
        ]
        secret = self._client.exchange(
            f"{rendered.folder}/{RENDEZVOUS_FILE}", secrets.token_hex(32).encode(), rendered.kms_key, None
        )
        await asyncio.gather(*writes, secret)
        try:
            await self._client.create(rendered.request)
            self._training_jobs.created(rendered.name)
        except NameInUseError:
            await self._require_own(rendered.attempt)
        finally:
            self._training_jobs.expire(rendered.name)

    def attempt_ref(self, attempt: int, config_digest: str, hosts: Sequence[str] = ()) -> AttemptRef:
        """What is observed of an attempt that was applied."""
        return AttemptRef(
            number=attempt,
            hosts=tuple(hosts) or hosts_of(self._job),
            job_uid=self._job.metadata.uid,
            config_digest=config_digest,
            progress_port=Launch.model_fields["progress_port"].default,
            output_uri=output_uri(self._job),
        )

    async def observe(self, attempt: AttemptRef) -> Observation:
        """What the instances of an attempt do.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        name = job_name(self._job, attempt.number)
        description = await self._training_jobs.describe(name)
        if description is None:
            if self._training_jobs.is_missing(name):
                return deleted(attempt, f"the training job {name} was deleted")
            return waiting(attempt, self._not_found(name))
        if not is_own(description, self._job, attempt.number):
            return deleted(attempt, f"the training job {name} was deleted, and its name taken by another one")
        if description["TrainingJobStatus"] in ENDED:
            reports = await self._reports(attempt, attempt.hosts)
            unexplained = is_unexplained(description) and not any(each.exit_code for each in reports.values())
            log = await asyncio.to_thread(last_words, self._client, name, attempt.hosts) if unexplained else ""
            return observe(attempt, description, reports, log)
        reports = await self._reports(attempt, attempt.hosts[:1])
        for report in reports.values():
            if report.ended_at is not None:
                self._training_jobs.expire_after_end(name, report.ended_at)
        return observe(attempt, description, reports)

    async def stop(self, attempt: AttemptRef) -> None:
        """Have SageMaker stop the training job: its ranks have two minutes to save.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        await self.stop_attempt(attempt.number)

    async def close(self, _: AttemptRef, __: Observation) -> None:
        """Do nothing: a training job that has ended does not start again."""

    async def restore(self, attempt: AttemptRef, _: Observation, __: Callable[[], Plan]) -> None:
        """Have the training job be as the spec is now, as far as that may change while it runs. What its instances need
        they have copied.

        Raises:
            TemporaryError: AWS does not answer.
        """
        name = job_name(self._job, attempt.number)
        description = await self._training_jobs.describe(name)
        if description is None or not is_own(description, self._job, attempt.number):
            return
        if changes := changes_of(sagemaker_of(self._job), description):
            await self._training_jobs.update(name, changes)

    def training_job_of(self, attempt: int) -> str:
        """What `run` shows of the training job of an attempt that is under way."""
        found = self.training_job_name(attempt)
        if self._training_jobs.was_created_here(job_name(self._job, attempt)):
            return f"{found} is created"
        return f"follows {found}, which was there already"

    def training_job_name(self, attempt: int) -> str:
        """The training job of an attempt, by its name and region."""
        return f"training job {job_name(self._job, attempt)} in {self._client.region}"

    async def clean_up(self, newest: int) -> None:
        """Forget what was observed of earlier attempts. Their files stay for a person to read.

        Args:
            newest: Number of the newest attempt.
        """
        self._training_jobs.forget(job_name(self._job, newest))

    async def finalize(self, status: JobStatus) -> None:
        """Stop the newest training job, recorded or not. One that was deleted is no error.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        for attempt in sorted({current_attempt(status), next_attempt(status)}):
            await self.stop_attempt(attempt)
            self._training_jobs.forget(job_name(self._job, attempt))

    async def stop_attempt(self, attempt: int) -> str | None:
        """Have SageMaker stop the training job of an attempt, where there is one that runs.

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
        return found

    async def _require_own(self, attempt: int) -> None:
        name = job_name(self._job, attempt)
        description = await self._client.describe(name)
        if description is None:
            raise TemporaryError(
                f"SageMaker has a training job {name}, and does not show it yet", "it is observed again"
            )
        if not is_own(description, self._job, attempt):
            raise foreign(self._job, attempt)

    def _not_found(self, name: str) -> Failure | None:
        """Why an attempt waits whose training job SageMaker does not know; None of one that it has just accepted."""
        if self._training_jobs.is_new(name):
            return None
        since = datetime.now(UTC) - timedelta(seconds=self._training_jobs.missing_seconds(name))
        return not_found(name, since, self._training_jobs.visible_within)

    async def _reports(self, attempt: AttemptRef, hosts: tuple[str, ...]) -> dict[str, NodeReport]:
        folder = f"{attempt_uri(self._job, attempt.number)}/status"
        contents = await asyncio.gather(*(self._client.read(f"{folder}/{host}.json") for host in hosts))
        found = {host: read_report(content) for host, content in zip(hosts, contents, strict=True) if content}
        return {host: report for host, report in found.items() if report is not None}


def _written(job: Job, status: JobStatus) -> Partition | None:
    """The partition of the checkpoints that earlier attempts may have left. What an InferenceJob has made, any ranks go
    on with.
    """
    if not isinstance(job, FineTuneJob) or job.spec.checkpoint.resume == "never":
        return None
    return Partition.of(status.plan) if status.plan and has_made_steps(status) else None
