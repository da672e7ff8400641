"""An operator with a clock of its own: the hours of a job take milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.unit.sagemaker.account import SHAPE
from tests.unit.sagemaker.in_process import Aws
from tests.unit.sagemaker.jobs import SETTINGS
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.driver import Driver
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs

INTERVAL_SECONDS = 10
"""Between two observations of a job, as the operator has it."""


class Operator:
    """One process that drives jobs, with its own clock.

    Args:
        aws: The account.
        jobs: The jobs.
    """

    def __init__(self, aws: Aws, jobs: list[Job]) -> None:
        self.seconds = 0.0
        aws.clock = lambda: self._now().timestamp()
        training_jobs = TrainingJobs(aws.client(), clock=lambda: self.seconds)
        backends = [SageMakerBackend(job, training_jobs, SETTINGS, _inputs) for job in jobs]
        self._drivers = [
            Driver(job, backend, INTERVAL_SECONDS, self._now) for job, backend in zip(jobs, backends, strict=True)
        ]
        self.statuses = [JobStatus() for _ in jobs]

    def _now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    async def run(self, seconds: int) -> None:
        """Make all steps of so many seconds."""
        for _ in range(0, seconds, INTERVAL_SECONDS):
            for number, driver in enumerate(self._drivers):
                self.statuses[number] = (await driver.step(self.statuses[number])).status
            self.seconds += INTERVAL_SECONDS


async def _inputs(_: JobStatus) -> Inputs:
    return Inputs("s3://models/m", SHAPE, {})
