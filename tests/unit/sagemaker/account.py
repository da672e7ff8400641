"""An account at the stand-in, and a job that is driven there by processes that may end at any moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.unit.sagemaker.jobs import MODELS, SETTINGS, plan
from zerotune_devtools.sagemaker.faults import Fault
from zerotune_devtools.sagemaker.server import SageMakerStandIn
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.driver import Driver
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.client import SageMakerClient
from zerotune_operator.backends.sagemaker.layout import attempt_uri, output_uri
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_trainer.errors import TemporaryError
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, ManifestFile, completion
from zerotune_trainer.progress import NodeProgress, NodeReport, Progress

SHAPE = shape_of_file(MODELS / "tiny-llama.json")
PATIENCE_SECONDS = 180
UNTIL_STOPPED = ("sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.1; done")
"""Command of a host that works until it is stopped."""


class Account:
    """An account at the stand-in."""

    def __init__(self, stand_in: SageMakerStandIn) -> None:
        self.stand_in, self._client = stand_in, SageMakerClient()

    def backend(self, job: Job, **timing: Any) -> SageMakerBackend:
        """The backend of a process that knows nothing yet."""

        async def find_inputs(_: JobStatus) -> Inputs:
            return _inputs(job)

        jobs = TrainingJobs(self._client, **({"max_age": 0.0, "visible_within": 20.0} | timing))
        return SageMakerBackend(job, jobs, SETTINGS, find_inputs)

    async def leave_result(self, job: Job, attempt: int = 0) -> None:
        """What the ranks and the first host of an attempt that succeeds write."""
        for name, content in result_of(job, attempt).items():
            await self._client.write(f"s3://{name}", content, None)

    async def leave_progress(self, job: Job, step: int) -> None:
        """What the first host of the first attempt writes while it runs."""
        progress = NodeProgress(job="j", attempt=0, host="algo-1", ranks=[], progress=Progress(step=step, total=9))
        report = NodeReport(host="algo-1", progress=progress)
        uri = f"{attempt_uri(job, 0)}/status/algo-1.json"
        await self._client.write(uri, report.model_dump_json(by_alias=True).encode(), None)

    def fail(self, operation: str, code: str | None = None, times: int = 1, *, after_effect: bool = False) -> None:
        """Have the next calls of an operation fail; without a code the connection breaks."""
        self.stand_in.faults.pending.append(Fault(operation, code, times, after_effect))

    def delete(self, name: str) -> None:
        """Have somebody stop a training job and delete it."""
        self.stand_in.jobs[name].kill()
        self.stand_in.call("SageMaker.DeleteTrainingJob", {"TrainingJobName": name})

    async def drive(
        self,
        job: Job,
        until: Callable[[JobStatus], bool],
        status: JobStatus | None = None,
        ends: Callable[[], bool] = lambda: False,
    ) -> JobStatus:
        """Drive a job until its status is as wanted.

        Args:
            job: The job.
            until: Whether the status is.
            status: Where it begins.
            ends: Whether the process ends before it writes the status of a step. The next one knows the last status.
        """
        status, backend = status or JobStatus(), self.backend(job)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not until(status):
            assert time.monotonic() < deadline, status
            try:
                step = await Driver(job, backend, 0.05, lambda: datetime.now(UTC)).step(status)
            except TemporaryError:
                await asyncio.sleep(0.05)
                continue
            if ends():
                backend = self.backend(job)
                continue
            status = step.status
            await asyncio.sleep(min(step.again or 0.0, 0.05))
        return status


def result_of(job: Job, attempt: int = 0) -> dict[str, bytes]:
    """What the ranks and the first host of an attempt that succeeds write, by `BUCKET/KEY`."""
    config = plan(job, attempt).config
    file = ManifestFile(path="model.safetensors", size=1, sha256="0" * 64)
    manifest = Manifest(job=config.job, config_digest=config.digest(), step=1, files=[file])
    message = completion("s3://results/r", manifest, Progress(step=1, total=1)).termination_message()
    report = NodeReport(host="algo-1", exit_code=0, message=message).model_dump_json(by_alias=True)
    objects = {
        f"{attempt_uri(job, attempt)}/status/algo-1.json": report.encode(),
        f"{output_uri(job)}/{MANIFEST_NAME}": manifest.encoded(),
        f"{output_uri(job)}/{file.path}": b"0",
    }
    return {uri.removeprefix("s3://"): content for uri, content in objects.items()}


def _inputs(job: Job) -> Inputs:
    return Inputs(str(job.spec.model.uri), SHAPE, {})
