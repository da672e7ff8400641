"""Jobs on SageMaker without a cluster: driven by the command line, with the credentials of who calls it.

What is known of a job is in its folder, as of a local one. The job itself needs no process of this machine: a run whose
process ends goes on, and is found again by the name that its uid gives it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import model_origin, record_origins
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.driver import Driver
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.local.layout import output_of
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.client import SageMakerClient
from zerotune_operator.backends.sagemaker.layout import is_of_a_run, job_name, model_source, sagemaker_of, uid_of
from zerotune_operator.backends.sagemaker.observe import may_run
from zerotune_operator.backends.sagemaker.output_claim import claimed_by
from zerotune_operator.backends.sagemaker.render import TrainingJob
from zerotune_operator.backends.sagemaker.requirements import require_readable
from zerotune_operator.backends.sagemaker.settings import OwnAccount
from zerotune_operator.backends.sagemaker.training_job_owner import is_own
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.lifecycle.attempts import FINAL, next_attempt, under_way
from zerotune_operator.lifecycle.conditions import unknown_since
from zerotune_operator.lifecycle.transitions import planned
from zerotune_operator.plan.outputs import reading_output
from zerotune_trainer.errors import ConfigurationError, TemporaryError
from zerotune_trainer.sizing.model_config import model_shape

POLL_SECONDS = 5.0
"""How often a job that is followed is observed."""
OWN_ACCOUNT = OwnAccount()


def standalone_backend(job: Job, home: Home) -> SageMakerBackend:
    """The backend of a job that the command line runs.

    Raises:
        ConfigurationError: SageMaker does not support what the job asks for, or there is no such AWS profile.
    """
    client = SageMakerClient(sagemaker_of(job).region)

    async def find_inputs(_: JobStatus) -> Inputs:
        return _find_inputs(job, home, client)

    return SageMakerBackend(job, TrainingJobs(client, max_age=POLL_SECONDS - 1), OWN_ACCOUNT, find_inputs)


async def known_uid(job: Job) -> str:
    """The uid of a job as another machine may have started it: of the last run of its kind and name that has claimed
    its output, begun anew or not; else the one that it has on every machine.

    Raises:
        ConfigurationError, TemporaryError: AWS does not answer.
    """
    claim = await claimed_by(SageMakerClient(sagemaker_of(job).region), job)
    return claim.uid if claim is not None and is_of_a_run(claim.uid) else uid_of(job)


async def running_training_job(job: Job, attempt: int) -> str | None:
    """The name of a training job of a job that has not ended, whoever has started it; None where there is none.

    Args:
        job: The job.
        attempt: The first attempt that is looked at.

    Raises:
        ConfigurationError, TemporaryError: AWS does not answer.
    """
    client = SageMakerClient(sagemaker_of(job).region)
    while (description := await client.describe(name := job_name(job, attempt))) is not None:
        if may_run(description) and is_own(description, job, attempt):
            return name
        attempt += 1
    return None


def driver_of(job: Job, backend: SageMakerBackend) -> Driver[TrainingJob]:
    """Takes a job through its steps."""
    return Driver(job, backend, POLL_SECONDS, lambda: datetime.now(UTC))


async def refresh(folder: JobFolder, home: Home) -> JobStatus:
    """The status of a job, observed now unless a process of this machine follows it. No attempt is started.

    Raises:
        ZerotuneError: AWS does not answer, this process or the one that follows the job.
    """
    try:
        with folder.locked():
            return await _observe(folder, home)
    except TemporaryError:
        if not folder.is_running():
            raise
    status = folder.read_status()  # Whoever follows the job writes it.
    if unknown_since(status) is not None and status.root_cause is not None:
        raise TemporaryError(status.root_cause.message, status.root_cause.hint)
    return status


async def _observe(folder: JobFolder, home: Home) -> JobStatus:
    status, job = folder.read_status(), folder.read_job()
    if under_way(status):
        return await _step(folder, status, standalone_backend(job, home))
    if status.phase == "Succeeded" or (backend := await _started_elsewhere(job, status, home)) is None:
        return status
    if status.phase in FINAL and status.plan is not None:  # It failed, and was begun again.
        status = planned(status, status.plan, datetime.now(UTC))
    return await _step(folder, status, backend)


async def _step(folder: JobFolder, status: JobStatus, backend: SageMakerBackend) -> JobStatus:
    step = await driver_of(folder.read_job(), backend).step(status)
    folder.write_status(step.status)
    return step.status


async def _started_elsewhere(job: Job, status: JobStatus, home: Home) -> SageMakerBackend | None:
    """The backend of a job whose next attempt another machine has started, also of one that was stopped or failed here.
    One of its name that is somebody else's is not: a run says so.
    """
    try:
        backend = standalone_backend(job, home)
        return backend if await backend.has_started(next_attempt(status)) else None
    except ConfigurationError:
        return None


def _find_inputs(job: Job, home: Home, client: SageMakerClient) -> Inputs:
    """The model to start from with its shape, and the outputs of other jobs of this machine's home.

    Raises:
        InputMissingError, ConfigurationError: there is no such input, or no instance can read it.
        TemporaryError: its store does not answer, or the job that makes it still runs.
    """
    origin = model_origin(job)
    uri = output_of(origin, home) if origin else model_source(job, str(job.spec.model.uri))
    records = {each.part: output_of(each, home) for each in record_origins(job)}
    require_readable(job, records | ({"model": uri} if origin else {}))
    with reading_output(job, uri):
        return Inputs(uri, model_shape(uri, job.spec.model.revision, client.read_now), records)
