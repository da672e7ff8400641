"""An instance of a SageMaker training job, as its container finds it below `/opt/ml`. Torch-free.

    input/config/resourceconfig.json   the hosts of the job, and which of them this is
    input/data/zerotune/               the channel with the job's folder, and where reports go; where it was planned for
                                       several instance types, a folder for each
    output/failure                     what `FailureReason` of the training job shows

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerotune_trainer.config import RENDEZVOUS_FILE
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError, Failure, InputMissingError
from zerotune_trainer.hostfile import Hostfile

ROOT_VARIABLE = "ZEROTUNE_OPT_ML"
"""Names another folder than `/opt/ml`."""
CHANNEL = "zerotune"
STATUS_URI_FILE = "status-uri"
"""File of the channel: the folder on S3 that receives the reports of the hosts."""
FAILURE_LIMIT = 1024
"""Characters of `output/failure` that SageMaker shows."""


@dataclass(frozen=True)
class Instance:
    """This instance.

    Args:
        root: `/opt/ml`.
    """

    root: Path

    @classmethod
    def of_environment(cls) -> Instance:
        """That of `$ZEROTUNE_OPT_ML`, else of `/opt/ml`."""
        return cls(Path(os.environ.get(ROOT_VARIABLE, "/opt/ml")))

    @property
    def _channel(self) -> Path:
        return self.root / "input" / "data" / CHANNEL

    def resources(self) -> dict[str, Any]:
        """`resourceconfig.json`: `hosts`, `current_host`, `current_instance_type`, `network_interface_name`.

        Raises:
            InputMissingError: it is not there.
            ConfigurationError: it does not name this host among the hosts.
        """
        path = self.root / "input" / "config" / "resourceconfig.json"
        if not path.is_file():
            raise InputMissingError(
                f"{path} is not there", "zerotune-sagemaker is for containers of SageMaker training jobs"
            )
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["current_host"] not in found["hosts"]:
            raise ConfigurationError(
                f"{path}: current_host {found['current_host']!r} is not one of the hosts {found['hosts']}"
            )
        return found

    def status_uri(self) -> str:
        """The folder on S3 that receives the reports.

        Raises:
            InputMissingError: the channel does not name it.
        """
        return self._read(STATUS_URI_FILE).strip()

    def planned_hostfile(self) -> Hostfile:
        """The hosts as the plan names them.

        Raises:
            InputMissingError, ConfigurationError: the channel has no hostfile.
        """
        return Hostfile.parse(self._read(f"{self._planned_for()}hostfile"))

    def write_job_folder(self, target: Path) -> Hostfile:
        """Copy the job's folder from the channel; its hostfile has the names that the hosts really have.

        Args:
            target: The folder, which exists.

        Returns:
            That hostfile.

        Raises:
            InputMissingError: the channel is not there.
            ConfigurationError: the job has another number of hosts than the plan, or no plan for this instance type.
        """
        hostfile = actual_hostfile(self.planned_hostfile(), self.resources()["hosts"])
        for path in (*self._channel.iterdir(), *(self._channel / self._planned_for()).iterdir()):
            if path.is_file():
                shutil.copyfile(path, target / path.name)
        (target / "hostfile").write_text(hostfile.render(), encoding="utf-8")
        if (target / RENDEZVOUS_FILE).is_file():
            (target / RENDEZVOUS_FILE).chmod(0o600)
        return hostfile

    def _planned_for(self) -> str:
        """The folder of the channel with the plan for this instance, as the beginning of a path: empty where there is
        one plan for any.

        Raises:
            ConfigurationError: there are plans for other instance types alone.
        """
        folders = sorted(path.parent.name for path in self._channel.glob("*/hostfile"))
        if not folders:
            return ""
        instance_type = self.resources().get("current_instance_type")
        if instance_type not in folders:
            raise ConfigurationError(
                f"this instance is of type {instance_type}, and the job was planned for {', '.join(folders)}",
                "create the training job with zerotune: its InstancePreferences are the types that it was planned for",
            )
        return f"{instance_type}/"

    def write_failure(self, failure: Failure) -> None:
        """Say why this host failed, where SageMaker shows it. Where that cannot be written, the exit code is left.

        Raises:
            OSError: it cannot be written.
        """
        hint = f"; {failure.hint}" if failure.hint else ""
        text = f"{failure.failure_class} (exit code {failure.exit_code}): {failure.message}{hint}"
        path = self.root / "output" / "failure"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text[:FAILURE_LIMIT], encoding="utf-8")

    def _read(self, name: str) -> str:
        path = self._channel / name
        if not path.is_file():
            raise InputMissingError(
                f"{path} is not there: the training job has no channel {CHANNEL!r} with the job's folder",
                "create the training job with zerotune, and see that the execution role may read the channel",
            )
        return path.read_text(encoding="utf-8")


def actual_hostfile(planned: Hostfile, hosts: list[str]) -> Hostfile:
    """The planned hostfile with the names that SageMaker gave the hosts: in the planned order where they are those that
    were planned, else in the order given.

    Raises:
        ConfigurationError: there are more or fewer.
    """
    if len(hosts) != len(planned.hosts):
        raise ConfigurationError(
            f"the training job has {counted(len(hosts), 'host')}, and the hostfile {len(planned.hosts)}",
            "the plan and the request must agree on the number of instances",
        )
    names = [host.name for host in planned.hosts]
    actual = names if set(names) == set(hosts) else hosts
    return Hostfile.of((name, host.slots) for name, host in zip(actual, planned.hosts, strict=True))
