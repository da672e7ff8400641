"""Jobs on SageMaker without a cluster: driven by the command line, with the credentials of who calls it.

What is known of a job is in its folder, as of a local one. The job itself needs no process of this machine: a run whose
process ends goes on, and is found again by the name that its uid gives it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import model_origin, record_origins
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.driver import Driver
from zerotune_operator.backends.local.admit import created
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.local.layout import output_of
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.client import SageMakerClient, TrainingJobDescription
from zerotune_operator.backends.sagemaker.layout import (
    claim_uri,
    is_of_a_run,
    job_name,
    model_source,
    sagemaker_of,
    uid_of,
)
from zerotune_operator.backends.sagemaker.observe import may_run
from zerotune_operator.backends.sagemaker.output_claim import Claim, claim_of, claimed_by
from zerotune_operator.backends.sagemaker.render import TrainingJob
from zerotune_operator.backends.sagemaker.requirements import require_readable
from zerotune_operator.backends.sagemaker.settings import OwnAccount
from zerotune_operator.backends.sagemaker.training_job_owner import is_own
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.lifecycle.attempts import ACTIVE, FINAL, next_attempt, under_way
from zerotune_operator.lifecycle.conditions import unknown_since
from zerotune_operator.lifecycle.transitions import planned, suspended
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


async def begun_later(job: Job) -> str | None:
    """The uid of a job of the kind and name of a known one that has claimed its output since, as `zerotune run --fresh`
    of another machine does; None where there is none.

    Raises:
        ConfigurationError, TemporaryError: AWS does not answer.
    """
    found = await _claim_of_another(job)
    if found is None:
        return None
    claim, description = found
    is_namesake = (claim.kind, claim.name) == (job.kind, job.metadata.name) and is_of_a_run(claim.uid)
    return claim.uid if is_namesake and description["CreationTime"] > created(job) else None


async def running_claim(job: Job) -> Claim | None:
    """The claim of another job to a job's output, while its training job runs; None where there is none.

    Raises:
        ConfigurationError, TemporaryError: AWS does not answer.
    """
    found = await _claim_of_another(job)
    return found[0] if found is not None and may_run(found[1]) else None


async def _claim_of_another(job: Job) -> tuple[Claim, TrainingJobDescription] | None:
    """The claim to a job's output that another one has, with its training job, where that is there."""
    client = SageMakerClient(sagemaker_of(job).region)
    claim = claim_of(await client.read_versioned(claim_uri(job)))
    if claim is None or claim.uid == job.metadata.uid:
        return None
    if claim.region not in (None, client.region):
        client = SageMakerClient(claim.region)
    description = await client.describe(claim.training_job_name)
    return None if description is None else (claim, description)


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
    status = folder.read_status()
    if status.phase == "Succeeded":
        return status
    return await catch_up(folder, standalone_backend(folder.read_job(), home), status)


async def catch_up(
    folder: JobFolder, backend: SageMakerBackend, status: JobStatus, noted: Callable[[JobStatus], None] = lambda _: None
) -> JobStatus:
    """The status of a job once all of its attempts are observed that there are, whoever has started them, also after a
    stop or a failure. None is started; one that has succeeded has no later ones.

    Args:
        folder: Of the job: receives the status.
        backend: Of the job.
        status: What is known of it.
        noted: Receives each status that was written.

    Raises:
        ZerotuneError: AWS does not answer, or an attempt was started with another spec.
    """
    driver = driver_of(folder.read_job(), backend)

    async def observe(known: JobStatus) -> JobStatus:
        seen = (await driver.step(known)).status
        folder.write_status(seen)
        noted(seen)
        return seen

    if under_way(status):
        status = await observe(status)
    while not under_way(status) and await was_begun_again(status, backend):
        status = await observe(begun_again(status))
    if waits_to_start(status) and await backend.stops.holds(next_attempt(status)):
        status = suspended(status, datetime.now(UTC))
        folder.write_status(status)
    return status


async def was_begun_again(status: JobStatus, backend: SageMakerBackend) -> bool:
    """Whether some other process has started the attempt after those that a status has. One of its name that is
    somebody else's is not it: a run says so.

    Raises:
        ConfigurationError: it was started with another spec.
        TemporaryError: AWS does not answer.
    """
    number = next_attempt(status)
    if status.phase == "Succeeded" or (status.phase in FINAL and status.plan is None):
        return False
    try:
        if not await backend.has_started(number):
            return False
    except ConfigurationError:
        return False
    inputs = await backend.find_inputs(status)
    assert isinstance(inputs, Inputs), "without a cluster nothing is waited for"
    await backend.creation.require_same_spec(backend.plan(inputs, number))
    return True


def begun_again(status: JobStatus) -> JobStatus:
    """The status with which a job goes on that has ended, or waited, and that another process has begun again."""
    if waits_to_start(status) or status.plan is None:
        return status
    return planned(status, status.plan, datetime.now(UTC))


def waits_to_start(status: JobStatus) -> bool:
    """Whether a job waits for whoever follows it to start its next attempt."""
    return not under_way(status) and status.phase in ACTIVE | {"Pending"}


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
