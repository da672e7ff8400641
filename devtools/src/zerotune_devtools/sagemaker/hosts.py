"""The hosts of a training job: each a folder like `/opt/ml` and a process of the container's entry point."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zerotune_devtools.sagemaker.channels import FileSystems, download, in_container
from zerotune_trainer.launching.instance import CHANNEL

_KEPT = ("PATH", "HOME", "LANG", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "PYTHONPATH")
"""Variables that a host has of this process. PYTHONPATH: its trainer is the one of who asks, not the installed one."""
_SETTINGS = {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
_IMAGE_INIT = ["tini", "--"]


class Host:
    """A host of a training job.

    Args:
        root: Its `/opt/ml`.
        address: Its loopback address, which is its name.
        name: Its name as SageMaker's logs have it: `algo-1`.
        command: What it runs instead of the container's entry point.
        file_systems: What it can mount.
    """

    def __init__(
        self,
        root: Path,
        address: str,
        name: str,
        command: Sequence[str] = (),
        file_systems: FileSystems = MappingProxyType({}),
    ) -> None:
        self.root, self.address, self.name, self._command = root, address, name, command
        self._file_systems = file_systems
        self.log = root.parent / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self, request: dict[str, Any], hosts: list[str], instance_type: str | None) -> None:
        """Write the configuration, and copy the channels from S3."""
        config = self.root / "input" / "config"
        for folder in (config, self.root / "output", self.root / "model", self.root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        resources = {
            "current_host": self.address,
            "current_instance_type": instance_type,
            "hosts": hosts,
            "network_interface_name": "lo",
        }
        channels = {
            channel["ChannelName"]: {"TrainingInputMode": channel.get("InputMode", "File")}
            for channel in request["InputDataConfig"]
        }
        files = {
            "resourceconfig": resources,
            "inputdataconfig": channels,
            "hyperparameters": request.get("HyperParameters", {}),
        }
        for name, content in files.items():
            (config / f"{name}.json").write_text(json.dumps(content))
        for channel in request["InputDataConfig"]:
            folder = self.root / "input" / "data" / channel["ChannelName"]
            folder.mkdir(parents=True, exist_ok=True)
            if "S3DataSource" in channel["DataSource"]:
                download(channel, folder)
        self._give_own_cache()

    def start(self, request: dict[str, Any]) -> None:
        """Start the entry point. What it prints is added to the log."""
        command = in_container([*(self._command or _entrypoint(request))], request, self.root, self._file_systems)
        own = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("AWS_")}
        place = {"ZEROTUNE_OPT_ML": str(self.root), "TMPDIR": str(self.root / "tmp")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=own | _SETTINGS | place | request.get("Environment", {}),
                process_group=0,
            )

    @property
    def exit_code(self) -> int | None:
        """Of the entry point; 128 + N of one that signal N ended, None while it runs."""
        code = self._process.poll() if self._process else None
        return 128 - code if code is not None and code < 0 else code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the entry point, SIGKILL to all of its processes."""
        if self._process is None or self._process.poll() is not None:
            return
        if number is signal.SIGKILL:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def failure(self) -> str:
        """What the container says of its failure, as far as SageMaker shows it."""
        path = self.root / "output" / "failure"
        return path.read_text()[:1024] if path.is_file() else ""

    def _give_own_cache(self) -> None:
        """A container has a `/tmp` of its own: hosts of one machine must not share the folder of cached files."""
        for path in (self.root / "input" / "data" / CHANNEL).rglob("config.json"):
            config = json.loads(path.read_text())
            config["launch"]["cacheDir"] = str(self.root / "tmp" / "cache")
            path.write_text(json.dumps(config))


def _entrypoint(request: dict[str, Any]) -> list[str]:
    """The container's entry point, as it is installed here."""
    words = list(request["AlgorithmSpecification"]["ContainerEntrypoint"])
    if words[:2] == _IMAGE_INIT:
        words = words[2:]
    return [str(Path(sys.executable).with_name(words[0])), *words[1:]]
