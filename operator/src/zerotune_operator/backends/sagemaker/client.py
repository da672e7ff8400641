"""What is asked of AWS for jobs, by boto3: training jobs, the files on S3 that go with them, and their logs.

One session, whose credentials come by boto3's usual chain, as do endpoints (AWS_ENDPOINT_URL_SAGEMAKER and the like).
Calls are made in threads of their own, away from the event loop. boto3 tries again what may pass, and lowers its rate
where AWS asks for that (mode `adaptive`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import boto3
from botocore.config import Config

from zerotune_operator.backends.sagemaker.advice import COMMAND_LINE, Advice
from zerotune_operator.backends.sagemaker.errors import NotFoundError, aws_errors

ResultT = TypeVar("ResultT")
TrainingJobDescription = dict[str, Any]
"""What `DescribeTrainingJob` answers."""

LOG_GROUP = "/aws/sagemaker/TrainingJobs"

_CONNECT_SECONDS, _READ_SECONDS = 10, 30
_THREADS = 8
_IF_ABSENT = "*"
_CONFLICTS = {409, 412}
"""The object is not in the state that a conditional write asks for, or another such write was under way."""


class Versioned(NamedTuple):
    """An object of S3, and which version of it this is."""

    content: bytes
    version: str


class SageMakerClient:
    """SageMaker, S3 and CloudWatch Logs of one region.

    Args:
        region: The region; None: that of the environment.
        advice: For who reads what is wrong.

    Raises:
        ConfigurationError: there is no such profile or region.
    """

    def __init__(self, region: str | None = None, advice: Advice = COMMAND_LINE) -> None:
        self.advice = advice
        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "adaptive"},  # As often as AWS_MAX_ATTEMPTS says.
            max_pool_connections=_THREADS,
        )
        with aws_errors("AWS cannot be asked", self.advice):
            session = open_session(region)
            self._sagemaker = session.client("sagemaker", config=config)
            self.region: str = self._sagemaker.meta.region_name
            self._s3 = session.client("s3", config=config)
            self._logs = session.client("logs", config=config)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aws")

    async def describe(self, name: str) -> TrainingJobDescription | None:
        """A training job; None where there is none of that name.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer the question.
        """

        def call() -> TrainingJobDescription:
            with aws_errors(f"training job {name}", self.advice):
                return dict(self._sagemaker.describe_training_job(TrainingJobName=name))

        try:
            return await self._off_loop(call)
        except NotFoundError:
            return None

    async def create(self, request: dict[str, Any]) -> None:
        """Create a training job.

        Raises:
            NameInUseError: there is one of that name.
            QuotaExceededError: a quota of the account does not allow it.
            ConfigurationError, TemporaryError: it is rejected, or AWS does not answer.
        """

        def call() -> None:
            with aws_errors(f"training job {request['TrainingJobName']} was not created", self.advice):
                self._sagemaker.create_training_job(**request)

        await self._off_loop(call)

    async def update(self, name: str, changes: dict[str, Any]) -> None:
        """Change a training job that runs.

        Raises:
            ConfigurationError, TemporaryError: it is rejected, or AWS does not answer.
        """

        def call() -> None:
            with aws_errors(f"training job {name} was not changed", self.advice):
                self._sagemaker.update_training_job(TrainingJobName=name, **changes)

        await self._off_loop(call)

    async def stop(self, name: str) -> None:
        """Stop a training job: its containers get SIGTERM, and two minutes. One that has ended, or was deleted, is no
        error.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """

        def call() -> None:
            with aws_errors(f"training job {name} was not stopped", self.advice):
                try:
                    self._sagemaker.stop_training_job(TrainingJobName=name)
                except self._sagemaker.exceptions.ClientError as error:
                    if error.response["Error"]["Code"] != "ValidationException":
                        raise
                    # It has ended by itself, or was deleted: whoever observes it next sees which.

        await self._off_loop(call)

    async def read(self, uri: str) -> bytes | None:
        """An object of S3; None where there is none.

        Raises:
            ConfigurationError, TemporaryError: S3 does not answer.
        """
        found = await self.read_versioned(uri)
        return found.content if found else None

    async def read_versioned(self, uri: str) -> Versioned | None:
        """The same, with its version for `exchange`."""
        try:
            return await self._off_loop(lambda: self._get(uri))
        except NotFoundError:
            return None

    def read_now(self, uri: str) -> bytes:
        """An object of S3. It blocks.

        Raises:
            NotFoundError: there is none.
            ConfigurationError, TemporaryError: S3 does not answer.
        """
        return self._get(uri).content

    def _get(self, uri: str) -> Versioned:
        bucket, key = _split(uri)
        with aws_errors(uri, self.advice):
            found = self._s3.get_object(Bucket=bucket, Key=key)
            return Versioned(bytes(found["Body"].read()), str(found["ETag"]))

    async def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of all objects of S3 below a folder, by their paths below it.

        Raises:
            ConfigurationError, TemporaryError: S3 does not answer.
        """
        bucket, key = _split(folder)
        prefix = f"{key}/"

        def call() -> dict[str, int]:
            with aws_errors(folder, self.advice):
                pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
                found = [each for page in pages for each in page.get("Contents", ())]
            return {each["Key"].removeprefix(prefix): each["Size"] for each in found}

        return await self._off_loop(call)

    async def write(self, uri: str, content: bytes, kms_key: str | None) -> None:
        """Write an object of S3; `kms_key` encrypts it, if not the bucket's default.

        Raises:
            ConfigurationError, TemporaryError: S3 rejects it, or does not answer.
        """
        await self._put(uri, content, kms_key, {})

    async def exchange(self, uri: str, content: bytes, kms_key: str | None, version: str | None) -> bool:
        """Write an object of S3 where it still is of that version, or is absent still where that is None.

        Returns:
            Whether it was written; False where somebody else was faster.

        Raises:
            ConfigurationError, TemporaryError: S3 rejects it, or does not answer.
        """
        return await self._put(uri, content, kms_key, {"IfMatch": version} if version else {"IfNoneMatch": _IF_ABSENT})

    async def _put(self, uri: str, content: bytes, kms_key: str | None, condition: dict[str, str]) -> bool:
        bucket, key = _split(uri)
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}

        def call() -> bool:
            with aws_errors(uri, self.advice):
                try:
                    self._s3.put_object(Bucket=bucket, Key=key, Body=content, **encryption, **condition)
                except self._s3.exceptions.ClientError as error:
                    if not condition or error.response["ResponseMetadata"]["HTTPStatusCode"] not in _CONFLICTS:
                        raise
                    return False
            return True

        return await self._off_loop(call)

    def last_log_lines(self, name: str, host: str, limit: int) -> list[str]:
        """The last lines that a host of a training job wrote, oldest first; none where it wrote nothing. It blocks.

        Raises:
            ConfigurationError, TemporaryError: CloudWatch Logs does not answer.
        """
        try:
            with aws_errors(f"the log of {name}/{host}", self.advice):
                streams = self._logs.describe_log_streams(
                    logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/{host}-"
                )["logStreams"]
                if not streams:
                    return []
                events = self._logs.get_log_events(
                    logGroupName=LOG_GROUP, logStreamName=streams[-1]["logStreamName"], limit=limit, startFromHead=False
                )["events"]
        except NotFoundError:
            return []
        return [str(event["message"]) for event in events]

    async def _off_loop(self, call: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def open_session(region: str | None) -> boto3.Session:
    """A session of a region; None: that of the environment.

    Raises:
        botocore.exceptions.ProfileNotFound: there is no such profile.
    """
    return boto3.Session(region_name=region or os.environ.get("AWS_REGION"))


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
