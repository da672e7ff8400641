"""SageMaker and S3 in this process, whose training jobs take a step of their life with each description: a job's whole
life takes milliseconds, and any of its calls can be the one that goes wrong.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from tests.unit.sagemaker.jobs import MODELS, SETTINGS
from zerotune_devtools.sagemaker.faults import AwsError
from zerotune_devtools.sagemaker.server import SageMakerStandIn
from zerotune_devtools.sagemaker.training_job import TrainingJob
from zerotune_operator.backends.sagemaker import standalone
from zerotune_operator.backends.sagemaker.advice import COMMAND_LINE
from zerotune_operator.backends.sagemaker.client import SageMakerClient

Effect = Callable[[], dict[str, Any]]
LIFE = ("Starting", "Downloading", "Training", "Training", "Uploading", "Completed")
_CALLS_UNTIL_LATE = 3


class Killed(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a call."""

    error: Callable[[], BaseException]
    takes_effect: bool = False
    late: bool = False
    """Whether it takes effect when other calls have been answered already."""


def answer(code: str, message: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Call")


FAULTS = {
    "killed before": Fault(Killed),
    "killed after": Fault(Killed, takes_effect=True),
    "throttled": Fault(lambda: answer("ThrottlingException", "Rate exceeded", 400)),
    "failed": Fault(lambda: answer("InternalFailure", "of AWS", 500)),
    "timed out before": Fault(lambda: ConnectTimeoutError(endpoint_url="aws")),
    "timed out after": Fault(lambda: ReadTimeoutError(endpoint_url="aws"), takes_effect=True),
    "answered late": Fault(lambda: ReadTimeoutError(endpoint_url="aws"), late=True),
}


def _name(request: dict[str, Any]) -> str:
    return f"{request['Bucket']}/{request['Key']}"


def _time(seconds: float) -> datetime:
    """A time as boto3 has it."""
    return datetime.fromtimestamp(seconds, UTC)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class SteppedTrainingJob(TrainingJob):
    """A training job whose life goes on when it is described."""

    left: list[str]
    """What it goes through, unless it is stopped."""
    hidden: int
    """How many descriptions still find nothing."""

    def begin(self) -> None:
        """It has no hosts."""

    def description(self) -> dict[str, Any]:
        """What it is now; the next one finds it a step further."""
        if self.hidden:
            self.hidden -= 1
            raise AwsError("ValidationException", "Requested resource not found.")
        found = super().description()
        if self.status == "Stopping":
            self._end("Stopped")
        elif not self.has_ended:
            self._go_on(self.left.pop(0))
        return found

    def kill(self) -> None:
        """There is nothing to end."""

    def _go_on(self, secondary: str) -> None:
        if secondary in ("Completed", "Failed"):
            self.reason = "InternalServerError: of AWS" if secondary == "Failed" else None
            self._end(secondary)
        else:
            self._enter(secondary)


@dataclass
class Aws:
    """An account in this process."""

    folder: Path
    states: Sequence[str] = LIFE
    """What training jobs go through, unless they are stopped."""
    hidden: int = 0
    """How many descriptions of a new training job find nothing."""
    faults: dict[int, Fault] = field(default_factory=dict)
    """By the number of the call that it is for."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """What lies on S3, by `BUCKET/KEY`."""
    clock: Callable[[], float] = time.time
    made: list[str] = field(default_factory=list)
    """The operations of all calls, in order."""

    def __post_init__(self) -> None:
        self.service = SageMakerStandIn(self.folder, make_job=self._make_job)
        self._lock, self._late = threading.Lock(), list[tuple[int, Effect]]()

    def _make_job(self, *arguments: Any) -> TrainingJob:
        job = SteppedTrainingJob(*arguments, clock=lambda: self.clock())
        job.left, job.hidden = list(self.states), self.hidden
        return job

    @property
    def jobs(self) -> list[TrainingJob]:
        """All training jobs."""
        return list(self.service.jobs.values())

    def close(self) -> None:
        """Close the socket of the stand-in, at which nobody asks."""
        self.service._server.server_close()

    def call(self, operation: str, effect: Effect) -> dict[str, Any]:
        """The answer of a call, or what goes wrong with it."""
        with self._lock:
            number = len(self.made)
            self.made.append(operation)
            self._let_late_ones_arrive(number)
            fault = self.faults.pop(number, None)
            if fault is None:
                return effect()
            if fault.takes_effect:
                self._ignoring_its_answer(effect)
            if fault.late:
                self._late.append((number + _CALLS_UNTIL_LATE, effect))
            raise fault.error()

    def _let_late_ones_arrive(self, number: int) -> None:
        due = [effect for at, effect in self._late if at <= number]
        self._late = [(at, effect) for at, effect in self._late if at > number]
        for effect in due:
            self._ignoring_its_answer(effect)

    def _ignoring_its_answer(self, effect: Effect) -> None:
        with suppress(ClientError):
            effect()

    def sagemaker(self, operation: str) -> Callable[..., dict[str, Any]]:
        """A method of boto3's client."""

        def ask(request: dict[str, Any]) -> dict[str, Any]:
            try:
                found = self.service.call(f"SageMaker.{operation}", request)
                return {name: _time(value) if name.endswith("Time") else value for name, value in found.items()}
            except AwsError as error:
                raise answer(error.code, error.message, 400) from error

        return lambda **request: self.call(operation, lambda: ask(request))

    def put_object(self, **request: Any) -> dict[str, Any]:
        """As boto3's client has it."""

        def put() -> dict[str, Any]:
            there = self.objects.get(_name(request))
            if "IfNoneMatch" in request and there is not None:
                raise answer("PreconditionFailed", "it is there", 412)
            if "IfMatch" in request and (there is None or _etag(there) != request["IfMatch"]):
                raise answer("PreconditionFailed", "it is another one", 412)
            self.objects[_name(request)] = request["Body"]
            return {}

        return self.call("PutObject", put)

    def get_object(self, **request: str) -> dict[str, Any]:
        """As boto3's client has it."""

        def get() -> dict[str, Any]:
            if _name(request) not in self.objects:
                raise answer("NoSuchKey", "it is not there", 404)
            content = self.objects[_name(request)]
            return {"Body": io.BytesIO(content), "ETag": _etag(content)}

        return self.call("GetObject", get)

    def list_objects(self, **request: str) -> Iterator[dict[str, Any]]:
        """The pages of boto3's paginator, of two objects each."""
        beginning = f"{request['Bucket']}/{request['Prefix']}"

        def listed() -> dict[str, Any]:
            bucket = len(request["Bucket"]) + 1
            names = sorted(name for name in self.objects if name.startswith(beginning))
            return {"Contents": [{"Key": name[bucket:], "Size": len(self.objects[name])} for name in names]}

        found = self.call("ListObjectsV2", listed)["Contents"]
        for first in range(0, len(found), 2):
            yield {"Contents": found[first : first + 2]}

    def client(self) -> SageMakerClient:
        """What zerotune asks, with these in the place of boto3's clients."""
        client = SageMakerClient.__new__(SageMakerClient)
        exceptions = SimpleNamespace(ClientError=ClientError)
        operations = {"create": "Create", "describe": "Describe", "stop": "Stop", "update": "Update"}
        methods = {f"{name}_training_job": self.sagemaker(f"{word}TrainingJob") for name, word in operations.items()}
        client._sagemaker = SimpleNamespace(exceptions=exceptions, **methods)
        client._s3 = SimpleNamespace(
            exceptions=exceptions,
            put_object=self.put_object,
            get_object=self.get_object,
            get_paginator={"list_objects_v2": SimpleNamespace(paginate=self.list_objects)}.__getitem__,
        )
        client.region, client.advice = "us-east-1", COMMAND_LINE
        client._threads = ThreadPoolExecutor(1)
        return client


def serve_commands(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command line ask this account, which has a model at `s3://models/m`, without a pause."""
    aws.objects["models/m/config.json"] = (MODELS / "tiny-llama.json").read_bytes()
    monkeypatch.setattr(standalone, "SageMakerClient", lambda _: aws.client())
    monkeypatch.setattr(standalone, "OWN_ACCOUNT", SETTINGS)
    monkeypatch.setattr(standalone, "POLL_SECONDS", 0.0)
