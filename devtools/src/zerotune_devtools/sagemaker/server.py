"""The stand-in's HTTP server: SageMaker's training jobs and the logs of their hosts, in AWS's JSON protocol.

boto3 reaches it by AWS_ENDPOINT_URL_SAGEMAKER and AWS_ENDPOINT_URL_CLOUDWATCH_LOGS. It knows what zerotune asks for,
and `DeleteTrainingJob`, with which people get in the way.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from zerotune_devtools.sagemaker.channels import missing_file_system
from zerotune_devtools.sagemaker.faults import AwsError, Faults, NoAnswerError
from zerotune_devtools.sagemaker.service_model import problems_of
from zerotune_devtools.sagemaker.training_job import TrainingJob, preferred

_ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/"
_NO_CAPACITY = "CapacityError: Unable to provision requested ML compute capacity."


class SageMakerStandIn:
    """The stand-in, for as long as its context lasts.

    Args:
        folder: Folder for the hosts of training jobs.
        visible_after: Seconds after which a training job that was created is described.
        command: What hosts run instead of the container's entry point.
        address: Where it listens.
        make_job: Makes a training job.
    """

    def __init__(
        self,
        folder: Path,
        visible_after: float = 0.0,
        command: Sequence[str] = (),
        address: str = "127.0.0.1",
        make_job: Callable[..., TrainingJob] = TrainingJob,
    ) -> None:
        self.jobs: dict[str, TrainingJob] = {}
        self.created: list[str] = []
        """Names of all training jobs that were ever created, in order."""
        self.calls: Counter[str] = Counter()
        self.faults = Faults()
        self.failure_reasons: list[str] = []
        """`FailureReason` of the next training jobs, which fail before they start."""
        self.capacity = threading.Event()
        """Whether there are instances: training jobs that are created while there are none are Pending."""
        self.capacity.set()
        self.deleting_seconds = 0.0
        """For how long a training job that is deleted is Deleting."""
        self.file_systems: dict[str, Path] = {}
        """By id: the folder that stands for a file system."""
        self._folder, self.visible_after, self.command, self._address = folder, visible_after, command, address
        self._lock, self._make_job = threading.Lock(), make_job
        self._server = ThreadingHTTPServer((address, 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self._address}:{self._server.server_port}"

    def __enter__(self) -> SageMakerStandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        for job in self.jobs.values():
            job.kill()

    def call(self, target: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            AwsError: it is rejected.
            NoAnswerError: there is none.
        """
        service, _, operation = target.partition(".")
        with self._lock:
            self.calls[operation] += 1
            if service == "SageMaker" and (problems := problems_of(operation, request)):
                raise AwsError("ValidationException", "; ".join(problems))
            return self.faults.apply(operation, lambda: self._answer(operation, request))

    def _answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "CreateTrainingJob":
                return self._create(request)
            case "DescribeTrainingJob":
                return self._visible(request["TrainingJobName"]).description()
            case "UpdateTrainingJob":
                return self._update(request)
            case "StopTrainingJob":
                return self._stop(request["TrainingJobName"])
            case "DeleteTrainingJob":
                return self._delete(request["TrainingJobName"])
            case "DescribeLogStreams":
                return {"logStreams": [{"logStreamName": name} for name in self._streams(request)]}
            case "GetLogEvents":
                return {"events": self._events(request["logStreamName"], request["limit"])}
        raise AwsError("UnknownOperationException", operation)

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["TrainingJobName"]
        if name in self.jobs and not self._is_deleted(self.jobs[name]):
            raise AwsError("ResourceInUse", f"Training job names must be unique: {name}")
        reason = self.failure_reasons.pop(0) if self.failure_reasons else None
        # Of its own: the hosts of several stand-ins on one machine listen at the same ports.
        network = f"127.{1 + self._server.server_port % 254}.{len(self.created) % 255}"
        selected = next((each for each in preferred(request) if each not in self.faults.without_capacity), None)
        if selected is None:
            reason = _NO_CAPACITY
        reason = reason or missing_file_system(request, self.file_systems)
        folder, systems = self._folder / name, self.file_systems
        self.jobs[name] = self._make_job(
            request, folder, network, _ARN + name, selected, reason, self.command, systems, self.capacity
        )
        self.created.append(name)
        return {"TrainingJobArn": _ARN + name}

    def _update(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["TrainingJobName"]
        job = self._visible(name)
        if job.status != "InProgress":
            raise AwsError("ValidationException", f"The request was rejected: the job is {job.status}")
        if "RemoteDebugConfig" in request and job.secondary not in ("Downloading", "Training"):
            raise AwsError("ValidationException", f"RemoteDebugConfig cannot change while the job is {job.secondary}")
        job.update(request)
        return {"TrainingJobArn": job.arn}

    def _stop(self, name: str) -> dict[str, Any]:
        job = self._visible(name)
        if job.status not in ("InProgress", "Stopping"):
            raise AwsError("ValidationException", f"The request was rejected: the job is {job.status}")
        job.stop()
        return {}

    def _delete(self, name: str) -> dict[str, Any]:
        job = self._visible(name)
        if not job.has_ended:
            raise AwsError("ValidationException", f"You can delete only jobs in a terminal state: it is {job.status}")
        kept = job.request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0)
        if time.time() - job.ended < kept:
            raise AwsError("ValidationException", "The training job retains a warm pool that is Available")
        job.delete()
        return {}

    def _is_deleted(self, job: TrainingJob) -> bool:
        return time.time() - job.deleted >= self.deleting_seconds

    def _visible(self, name: str) -> TrainingJob:
        job = self.jobs.get(name)
        if job is None or self._is_deleted(job) or time.time() - job.created < self.visible_after:
            raise AwsError("ValidationException", "Requested resource not found.")
        return job

    def _streams(self, request: dict[str, Any]) -> list[str]:
        name, _, host = request["logStreamNamePrefix"].partition("/")
        hosts = self.jobs[name].hosts if name in self.jobs else []
        return [f"{name}/{each.name}-1" for each in hosts if f"{each.name}-" == host]

    def _events(self, stream: str, limit: int) -> list[dict[str, Any]]:
        name, _, host = stream.partition("/")
        found = next(each for each in self.jobs[name].hosts if f"{each.name}-1" == host)
        lines = found.log.read_text().splitlines()[-limit:]
        return [{"timestamp": 0, "message": line, "ingestionTime": 0} for line in lines]


def _handler_of(stand_in: SageMakerStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """One call of AWS's JSON protocol."""
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            try:
                self._answer(200, stand_in.call(self.headers["X-Amz-Target"], request))
            except AwsError as error:
                self._answer(400, {"__type": error.code, "message": error.message})
            except NoAnswerError:
                self.close_connection = True

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Requests are counted, not logged."""

    return Handler
