"""What is asked of AWS to observe an attempt: its training job, what its hosts report on S3, and where nobody else says
why it failed, its log.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.complete_output import own_manifest
from zerotune_operator.backends.reports import read_report
from zerotune_operator.backends.sagemaker.client import TrainingJobDescription
from zerotune_operator.backends.sagemaker.gone import deleted, not_found
from zerotune_operator.backends.sagemaker.layout import attempt_uri, job_name
from zerotune_operator.backends.sagemaker.logs import last_words
from zerotune_operator.backends.sagemaker.observe import ENDED, is_unexplained, observe, waiting, was_stopped
from zerotune_operator.backends.sagemaker.stops import Stops
from zerotune_operator.backends.sagemaker.training_job_owner import is_own
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_trainer.errors import Failure
from zerotune_trainer.manifest import MANIFEST_NAME, missing_files
from zerotune_trainer.progress import NodeReport


class Observer:
    """Observes the attempts of a job.

    Args:
        job: The job.
        training_jobs: What is known of training jobs.
        stops: What was stopped.
    """

    def __init__(self, job: Job, training_jobs: TrainingJobs, stops: Stops) -> None:
        self._job, self._training_jobs, self._stops = job, training_jobs, stops
        self._client = training_jobs.client

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
            return waiting(attempt, self._not_found(attempt, name))
        if not is_own(description, self._job, attempt.number):
            return deleted(attempt, f"the training job {name} was deleted, and its name taken by another one")
        if description["TrainingJobStatus"] in ENDED:
            return await self._ended(attempt, description)
        reports = await self._reports(attempt, attempt.hosts[:1])
        for report in reports.values():
            if report.ended_at is not None:
                self._training_jobs.expire_after_end(name, report.ended_at)
        return observe(attempt, description, reports)

    async def _ended(self, attempt: AttemptRef, description: TrainingJobDescription) -> Observation:
        reports = await self._reports(attempt, attempt.hosts)
        name, log = job_name(self._job, attempt.number), ""
        if is_unexplained(description) and not any(each.exit_code for each in reports.values()):
            log = await asyncio.to_thread(last_words, self._client, name, attempt.hosts)
        by_others = was_stopped(description) and not await self._stops.was_asked_for(attempt.number)
        seen = observe(attempt, description, reports, log, by_others=by_others)
        if seen.output is not None and not await self.has_output(attempt):
            return replace(seen, output=None)  # Somebody has deleted of it since a host reported it.
        return seen

    async def has_output(self, attempt: AttemptRef) -> bool:
        """Whether the output of an attempt is there: the manifest that its ranks write last, and all files in it, by
        name and size.

        Raises:
            ConfigurationError, TemporaryError: S3 does not answer.
        """
        content = await self._client.read(f"{attempt.output_uri}/{MANIFEST_NAME}")
        manifest = own_manifest(content, attempt.job_uid, attempt.config_digest)
        return manifest is not None and not missing_files(manifest, await self._client.sizes(attempt.output_uri))

    def _not_found(self, attempt: AttemptRef, name: str) -> Failure | None:
        """Why an attempt waits whose training job SageMaker does not know; None of one that it has just accepted."""
        if self._training_jobs.is_new(name):
            return None
        since = datetime.now(UTC) - timedelta(seconds=self._training_jobs.missing_seconds(name))
        return not_found(attempt, name, since, self._training_jobs.visible_within)

    async def _reports(self, attempt: AttemptRef, hosts: tuple[str, ...]) -> dict[str, NodeReport]:
        folder = f"{attempt_uri(self._job, attempt.number)}/status"
        contents = await asyncio.gather(*(self._client.read(f"{folder}/{host}.json") for host in hosts))
        found = {host: read_report(content) for host, content in zip(hosts, contents, strict=True) if content}
        return {host: report for host, report in found.items() if report is not None}
