"""The SageMaker backend: a training job an attempt (`creation`), observed by `DescribeTrainingJob` and what its hosts
write to S3 (`observer`), and stopped (`stops`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.origins import origins, starting_from
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.sagemaker.creation import Creation
from zerotune_operator.backends.sagemaker.known_types import require_known_types
from zerotune_operator.backends.sagemaker.layout import hosts_of, job_name, output_uri, place, sagemaker_of
from zerotune_operator.backends.sagemaker.observer import Observer
from zerotune_operator.backends.sagemaker.render import TrainingJob, render
from zerotune_operator.backends.sagemaker.requirements import require_sagemaker
from zerotune_operator.backends.sagemaker.settings import SageMakerSettings
from zerotune_operator.backends.sagemaker.stops import Stops
from zerotune_operator.backends.sagemaker.training_job_owner import is_own
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.backends.sagemaker.update import changes_of
from zerotune_operator.lifecycle.attempts import current_attempt, has_made_steps, next_attempt
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_operator.plan import Partition, Plan, identity_of, loading, plan_job
from zerotune_trainer.config import Launch
from zerotune_trainer.errors import TemporaryError

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
        self._find_inputs = find_inputs
        self.creation = Creation(job, training_jobs)
        self.stops = Stops(job, training_jobs)
        self._observer = Observer(job, training_jobs, self.stops)

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
        layout, named = place(job, inputs.model_uri), origins(self._job)
        plan = plan_job(job, inputs.shape, layout, identity_of(job, attempt), origins=named)
        return loading(plan, inputs.partition)

    def render(self, plan: Plan) -> TrainingJob:
        """The training job of the attempt that `plan` is for."""
        return render(plan, self._job, self._settings)

    async def has_started(self, attempt: int) -> bool:
        """See `Creation`."""
        return await self.creation.has_started(attempt)

    async def apply(self, rendered: TrainingJob) -> None:
        """See `Creation`."""
        await self.creation.create(rendered)

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
        """See `Observer`."""
        return await self._observer.observe(attempt)

    async def has_output(self, status: JobStatus) -> bool:
        """Whether the output of a job that has succeeded is there still.

        Raises:
            ConfigurationError, TemporaryError: S3 does not answer, so that nobody knows.
        """
        if status.output is None or status.plan is None:
            return False
        attempt = self.attempt_ref(status.attempts[-1].number, status.plan.config_digest or "")
        return await self._observer.has_output(replace(attempt, output_uri=status.output.uri))

    async def stop(self, attempt: AttemptRef) -> None:
        """See `Stops`."""
        await self.stops.stop(attempt.number)

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
        return f"training job {job_name(self._job, attempt)} in {self._training_jobs.client.region}"

    async def clean_up(self, newest: int) -> None:
        """Forget what was observed of earlier attempts. Their files stay for a person to read.

        Args:
            newest: Number of the newest attempt.
        """
        self._training_jobs.forget(job_name(self._job, newest))

    async def finalize(self, status: JobStatus) -> None:
        """Stop the newest training job, recorded or not. One that was deleted is no error.

        Raises:
            ConfigurationError: AWS rejects it.
            TemporaryError: AWS does not answer, or does not show a training job yet that was created a moment ago.
        """
        stopped = await self.stops.stop_newest(status)
        if stopped.unseen is not None:
            raise TemporaryError(
                f"training job {stopped.unseen} is to be stopped, and SageMaker, which takes a while to show one that "
                "was just created, does not know it yet",
                f"it is tried again; after {self._training_jobs.visible_within:.0f} s it counts as deleted",
            )
        for attempt in {current_attempt(status), next_attempt(status)}:
            self._training_jobs.forget(job_name(self._job, attempt))


def _written(job: Job, status: JobStatus) -> Partition | None:
    """The partition of the checkpoints that earlier attempts may have left. What an InferenceJob has made, any ranks go
    on with.
    """
    if not isinstance(job, FineTuneJob) or job.spec.checkpoint.resume == "never":
        return None
    return Partition.of(status.plan) if status.plan and has_made_steps(status) else None
