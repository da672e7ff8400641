"""`zerotune-sagemaker`: the entry point of a container of a SageMaker training job. Torch-free.

It makes the job's folder of the channel, runs `zerotune-launch` as any other node does, and writes to S3 how far this
host is and how it ended: nobody outside can reach a launcher here. SageMaker sends SIGTERM 120 seconds before it kills
the container, for a stop as for the end of spot capacity; the launcher has its ranks save a checkpoint then.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from zerotune_trainer.config import load_config
from zerotune_trainer.errors import Failure, KilledError, TemporaryError, ZerotuneError
from zerotune_trainer.failures import describe
from zerotune_trainer.launching.instance import Instance
from zerotune_trainer.launching.logs import set_up_log
from zerotune_trainer.progress import NodeProgress, NodeReport
from zerotune_trainer.storage import locate
from zerotune_trainer.storage.s3_client import client
from zerotune_trainer.storage.s3_errors import s3_errors

_REPORT_SECONDS = 10.0
"""How often a host that runs reports how far it is."""
_PROGRESS_TIMEOUT_SECONDS = 2.0
_TERMINATION_MESSAGE = "termination.json"

_logger = logging.getLogger(__name__)


def main() -> NoReturn:
    """The command."""
    set_up_log("zerotune-sagemaker")
    instance = Instance.of_environment()
    try:
        with tempfile.TemporaryDirectory(prefix="zerotune-") as folder:
            exit_code = _run(instance, Path(folder))
    except ZerotuneError as error:
        _logger.error("%s", error)
        instance.write_failure(describe(error))
        exit_code = error.exit_code
    sys.exit(exit_code)


def _run(instance: Instance, folder: Path) -> int:
    """Run this host's ranks to their end; returns the exit code."""
    resources = instance.resources()
    hostfile, host = instance.write_job_folder(folder), resources["current_host"]
    index = hostfile.hosts.index(hostfile.host(host))
    reporter = Reporter(instance.status_uri(), instance.planned_hostfile().hosts[index].name)
    launcher = _start(folder, host, resources)
    signal.signal(signal.SIGTERM, lambda *_: launcher.terminate())
    port = load_config(folder).launch.progress_port
    while True:
        try:
            code = launcher.wait(_REPORT_SECONDS)
            break
        except subprocess.TimeoutExpired:
            reporter.report_progress(_progress(host, port))
    return _conclude(instance, reporter, folder, host, code)


def _start(folder: Path, host: str, resources: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    interface = resources.get("network_interface_name")
    names = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
    variables = dict.fromkeys(names, interface) if interface else {}
    command = Path(sys.executable).with_name("zerotune-launch")
    options = ("--host", host, "--termination-log", folder / _TERMINATION_MESSAGE)
    return subprocess.Popen([command, folder, *options], env=variables | os.environ)


def _conclude(instance: Instance, reporter: Reporter, folder: Path, host: str, code: int) -> int:
    """Report how the launcher ended; returns the exit code of the container."""
    path = folder / _TERMINATION_MESSAGE
    message = path.read_text(encoding="utf-8") if path.is_file() else ""
    if code < 0:
        code, message = 128 - code, _killed(host, -code).termination_message()
    if code:
        instance.write_failure(_failure(message, host, code))
    reporter.report_end(code, message)
    return code


def _failure(message: str, host: str, code: int) -> Failure:
    try:
        return Failure.model_validate_json(message)
    except ValidationError:
        return Failure(
            failure_class="Internal",
            message=f"zerotune-launch on {host} ended with exit code {code} and left no message",
            hint="look into the log of the host",
            exit_code=code,
        )


def _killed(host: str, number: int) -> Failure:
    return Failure(
        failure_class=KilledError.failure_class,
        message=f"zerotune-launch on {host} was killed by {signal.Signals(number).name}",
        hint="an instance that is out of memory does so: lower the batch, or take a larger instance type",
        host=host,
        exit_code=128 + number,
    )


class Reporter:
    """Writes the reports of this host. One that cannot be written is logged: the ranks go on, and what they write
    themselves says what fails.

    Args:
        folder: URI of the folder that receives them.
        host: Name of this host in the plan, which names the file.

    Raises:
        InputMissingError, ConfigurationError: the folder cannot be written, before any rank has begun.
    """

    def __init__(self, folder: str, host: str) -> None:
        self._uri, self._host = f"{folder}/{host}.json", host
        self._progress: NodeProgress | None = None
        # One of an earlier container of this attempt is true no more.
        self._write(NodeReport(host=host), tolerated=TemporaryError)

    def report_progress(self, progress: NodeProgress | None) -> None:
        """Report how far this host is, where that is known."""
        if progress is not None:
            self._progress = progress
            self._write(NodeReport(host=self._host, progress=progress))

    def report_end(self, exit_code: int, message: str) -> None:
        """Report how this host ended.

        Args:
            exit_code: Of the launcher.
            message: Its termination message.
        """
        self._write(
            NodeReport(
                host=self._host,
                progress=self._progress,
                exit_code=exit_code,
                ended_at=datetime.now(UTC),
                message=message,
            )
        )

    def _write(self, report: NodeReport, tolerated: type[ZerotuneError] = ZerotuneError) -> None:
        content = report.model_dump_json(by_alias=True, exclude_none=True).encode()
        bucket, _, key = locate(self._uri).path.partition("/")
        try:
            with s3_errors(self._uri):
                client().put_object(Bucket=bucket, Key=key, Body=content)
        except tolerated as error:
            _logger.warning("a report is lost: %s", error)


def _progress(host: str, port: int) -> NodeProgress | None:
    """What the launcher answers; None while it does not."""
    connection = HTTPConnection(host, port, timeout=_PROGRESS_TIMEOUT_SECONDS)  # Not urllib: it would ask a proxy.
    try:
        connection.request("GET", "/progress")
        return NodeProgress.model_validate_json(connection.getresponse().read())
    except (OSError, HTTPException, ValidationError):
        return None
    finally:
        connection.close()
