"""Whose a job's output is, before a training job is created that would write there: its instances are paid for while
they find that out.

    OUTPUT/.zerotune-job.json       the ranks' own file: written by those of any backend, as they start
    OUTPUT/.sagemaker/claim.json    the training job that was created last; written before it is created

A claim holds for as long as its training job runs: where that never came to be, or has ended before its ranks had
written anything, another job may have the output. It names the region, in which it is looked for, also where it is of
the same job, which another machine has started. A folder in the output of another job is no output either.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from pydantic import ValidationError

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.output_owner import described, require_outside, require_own
from zerotune_operator.backends.sagemaker.client import SageMakerClient, Versioned
from zerotune_operator.backends.sagemaker.layout import (
    CLAIM_PATH,
    claim_uri,
    is_of_a_run,
    job_name,
    output_uri,
    parents_of,
)
from zerotune_operator.backends.sagemaker.observe import may_run
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ConfigurationError, TemporaryError, ZerotuneError
from zerotune_trainer.manifest import OWNER_NAME

FIND_AGAIN = "`zerotune status --file FILE`, with its file, makes it known here, and `zerotune run` follows it then"
"""What to do about a training job that another machine has begun with `--fresh`."""


class Claim(Settings):
    """Which training job of which job was created last to write to an output."""

    kind: Literal["FineTuneJob", "InferenceJob"]
    name: str
    uid: str
    training_job_name: str
    region: str | None = None
    """None in a claim of a version that wrote none: the job's own."""
    rejected: bool = False
    """Whether AWS has rejected its creation, so that there is no such training job."""


class OutputClaim:
    """The claim of a job to its output.

    Args:
        job: The job, with its uid.
        training_jobs: What is known of training jobs.
    """

    def __init__(self, job: Job, training_jobs: TrainingJobs) -> None:
        self._job, self._training_jobs, self._client = job, training_jobs, training_jobs.client
        self._output, self._uri = output_uri(job), claim_uri(job)
        self._elsewhere: dict[str, TrainingJobs] = {}
        """What is known of training jobs in other regions."""

    async def require_free(self) -> None:
        """See that the output is not another job's, and lies in none.

        Raises:
            ConfigurationError: it is, or AWS rejects the question.
            TemporaryError: AWS does not answer.
        """
        claim = claim_of(await self._client.read_versioned(self._uri))
        if claim is not None and self._is_anothers(claim):
            await self._has_ended(claim, self._output)
        await self._require_own_files()

    async def take(self, attempt: int, kms_key: str | None) -> bool:
        """Claim the output for the training job of an attempt, which is to be created. Of two jobs that do so at once
        one succeeds.

        Returns:
            Whether it is claimed; False where a later attempt of the job, which another machine has started, has it.

        Raises:
            ConfigurationError: it is another job's, or AWS rejects the question.
            TemporaryError: it may be, or AWS does not answer.
        """
        found = await self._client.read_versioned(self._uri)
        claim = claim_of(found)
        number = self._attempt_of(claim) if claim is not None else None
        if number is not None and number > attempt:
            return False
        is_unknown = claim is not None and self._is_anothers(claim) and not await self._has_ended(claim, self._output)
        await self._require_own_files()
        if claim is not None and is_unknown:
            raise TemporaryError(
                f"{self._output} is claimed by {self._described(claim)}, and SageMaker does not know that training "
                "job, which may have been created a moment ago",
                f"it is tried again; after {self._training_jobs.visible_within:.0f} s it counts as deleted",
            )
        own = self._claim_of(attempt)
        if claim == own:
            return True
        if not await self._client.exchange(self._uri, _encoded(own), kms_key, found.version if found else None):
            raise TemporaryError(f"{self._uri} was written by another process at the same time", "it is tried again")
        return True

    async def reject(self, attempt: int, kms_key: str | None) -> None:
        """Write down that AWS has rejected the training job of an attempt, for those who would wait for it to appear.
        Where that cannot be written they wait.
        """
        own = self._claim_of(attempt)
        with suppress(ZerotuneError):
            found = await self._client.read_versioned(self._uri)
            if found is not None and claim_of(found) == own:
                rejected = own.model_copy(update={"rejected": True})
                await self._client.exchange(self._uri, _encoded(rejected), kms_key, found.version)

    def _claim_of(self, attempt: int) -> Claim:
        return Claim(
            kind=self._job.kind,
            name=self._job.metadata.name,
            uid=self._job.metadata.uid,
            training_job_name=job_name(self._job, attempt),
            region=self._client.region,
        )

    async def _require_own_files(self) -> None:
        """See that the output holds no other job's files, and lies in no other job's output."""
        content = await self._client.read(f"{self._output}/{OWNER_NAME}")
        require_own(self._output, content, self._job)
        for parent in parents_of(self._output):
            claim = claim_of(await self._read_above(f"{parent}/{CLAIM_PATH}"))
            if claim is not None and claim.uid != self._job.metadata.uid:
                await self._has_ended(claim, parent)
            owner = await self._read_above(f"{parent}/{OWNER_NAME}")
            require_outside(self._output, parent, owner.content if owner else None, self._job)

    async def _read_above(self, uri: str) -> Versioned | None:
        """A file above the output; None where there is none, or where this identity may not read: rights to the output
        alone are enough, and what lies above it is looked at as far as it may be seen.

        Raises:
            TemporaryError: S3 does not answer.
        """
        with suppress(ConfigurationError):
            return await self._client.read_versioned(uri)
        return None

    def _is_anothers(self, claim: Claim) -> bool:
        """Whether a claim is of another job; or of this one in another region, or under a name that its attempts do not
        have now: what runs there would not be found.
        """
        return self._attempt_of(claim) is None or self._is_elsewhere(claim)

    def _attempt_of(self, claim: Claim) -> int | None:
        """The attempt of the job whose training job has claimed its output; None where the claim is none of these."""
        number = claim.training_job_name.removeprefix(job_name(self._job, 0).removesuffix("0"))
        return int(number) if claim.uid == self._job.metadata.uid and number.isdecimal() else None

    def _is_elsewhere(self, claim: Claim) -> bool:
        return claim.region not in (None, self._client.region)

    async def _has_ended(self, claim: Claim, claimed: str) -> bool:
        """Whether the training job of a claim, to the output or a folder that it lies in, has ended, was deleted or
        rejected; False where that is not certain.

        Raises:
            ConfigurationError: it runs.
        """
        name, training_jobs = claim.training_job_name, self._training_jobs_of(claim)
        description = await training_jobs.describe(name)
        if description is not None and may_run(description):
            place = self._output if claimed == self._output else f"{self._output} lies in {claimed}, which"
            raise ConfigurationError(
                f"{place} is written to by {self._described(claim)}, which has not ended",
                f"{self._how_to_follow(claim)}name another output.uri, or wait until that one has ended, or stop it",
            )
        if description is None and not claim.rejected and not training_jobs.is_missing(name):
            return False
        training_jobs.forget(name)
        return True

    def _how_to_follow(self, claim: Claim) -> str:
        """How to find a training job of this job, or of a later one of its name; empty where it is of another job."""
        if claim.uid != self._job.metadata.uid:
            is_namesake = (claim.kind, claim.name) == (self._job.kind, self._job.metadata.name)
            return f"{FIND_AGAIN}, or " if is_namesake and is_of_a_run(claim.uid) else ""
        if self._is_elsewhere(claim):
            return f"set backend.sagemaker.region: {claim.region} to follow it there, or "
        return "set backend.sagemaker.jobNamePrefix to what it was to follow it, or "

    def _training_jobs_of(self, claim: Claim) -> TrainingJobs:
        if claim.region is None or not self._is_elsewhere(claim):
            return self._training_jobs
        if claim.region not in self._elsewhere:
            client = SageMakerClient(claim.region, self._client.advice)
            visible_within = self._training_jobs.visible_within
            self._elsewhere[claim.region] = TrainingJobs(client, visible_within=visible_within)
        return self._elsewhere[claim.region]

    def _described(self, claim: Claim) -> str:
        is_own = claim.uid == self._job.metadata.uid
        other = "this job" if is_own else described(claim.kind, claim.name, claim.uid, self._job)
        place = f" in {claim.region}" if self._is_elsewhere(claim) else ""
        return f"the training job {claim.training_job_name} of {other}{place}"


def _encoded(claim: Claim) -> bytes:
    return claim.model_dump_json(by_alias=True).encode()


async def claimed_by(client: SageMakerClient, job: Job) -> Claim | None:
    """The claim on a job's output, where it is one of a job of its kind and name.

    Raises:
        ConfigurationError, TemporaryError: S3 does not answer.
    """
    claim = claim_of(await client.read_versioned(claim_uri(job)))
    return claim if claim and (claim.kind, claim.name) == (job.kind, job.metadata.name) else None


def claim_of(found: Versioned | None) -> Claim | None:
    """What a file says; None where there is none, or where it is no claim."""
    try:
        return Claim.model_validate_json(found.content) if found else None
    except ValidationError:
        return None
