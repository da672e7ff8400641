"""The life of a training job, in a thread of its own; its states are those of `states.py`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zerotune_devtools.sagemaker.channels import FileSystems
from zerotune_devtools.sagemaker.hosts import Host
from zerotune_devtools.sagemaker.states import FOLLOWING, STATUSES, require_follows

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 120.0
"""Between SIGTERM and SIGKILL, as SageMaker has it."""


def preferred(request: dict[str, Any]) -> list[str]:
    """The instance types that a request takes, in order of preference."""
    resources = request["ResourceConfig"]
    preferences = resources.get("InstancePreferences") or [resources]
    return [each["InstanceType"] for each in preferences]


class TrainingJob:
    """A training job.

    Args:
        request: What `CreateTrainingJob` got.
        folder: Folder for its hosts.
        network: The first three parts of its hosts' addresses.
        arn: Its ARN.
        instance_type: What its instances are; None: there are none for it.
        failure_reason: Fails with this reason before it has started; None: it runs.
        command: What its hosts run instead of the container's entry point.
        file_systems: What they can mount.
        capacity: Whether there are instances; until there are it is Pending.
        clock: The time.
    """

    def __init__(
        self,
        request: dict[str, Any],
        folder: Path,
        network: str,
        arn: str,
        instance_type: str | None,
        failure_reason: str | None = None,
        command: Sequence[str] = (),
        file_systems: FileSystems = MappingProxyType({}),
        capacity: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.request, self.arn, self.created, self._clock = request, arn, clock(), clock
        self.status, self.secondary, self.reason = "InProgress", "Starting", failure_reason
        self.started, self.ended = 0.0, 0.0
        self.transitions: list[dict[str, Any]] = []
        self._instance_type, self._is_selected = instance_type, False
        self._folder, self._network, self._command, self._lives = folder, network, command, 0
        self._file_systems = file_systems
        self._stop, self._interrupt, self._capacity = threading.Event(), threading.Event(), capacity
        self._trained, self._limit, self._entering = 0.0, "", threading.RLock()
        self.deleted = float("inf")
        """When `DeleteTrainingJob` was called."""
        self.hosts: list[Host] = []
        self._enter("Starting")
        self._thread = threading.Thread(target=self._run, name=request["TrainingJobName"], daemon=True)
        self.begin()

    def begin(self) -> None:
        """Begin its life."""
        self._thread.start()

    def description(self) -> dict[str, Any]:
        """What `DescribeTrainingJob` answers."""
        given = {name: value for name, value in self.request.items() if name != "Tags"}
        found = given | {
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": self.secondary,
            "CreationTime": self.created,
            "LastModifiedTime": self._clock(),
            "SecondaryStatusTransitions": list(self.transitions),
        }
        resources = self.request["ResourceConfig"]
        if self._is_selected and "InstancePreferences" in resources:
            count = resources["InstanceCount"]
            selected = {"SelectedInstanceType": self._instance_type, "SelectedInstanceCount": count}
            found["ResourceConfig"] = resources | selected
        times = {"TrainingStartTime": self.started, "TrainingEndTime": self.ended}
        found |= {name: at for name, at in times.items() if at}
        if self.reason:
            found["FailureReason"] = self.reason
        return found

    @property
    def has_ended(self) -> bool:
        """Whether its status changes no more, but for that it is deleted."""
        return self.status in ("Completed", "Failed", "Stopped")

    def update(self, changes: dict[str, Any]) -> None:
        """`UpdateTrainingJob`."""
        for name in ("ResourceConfig", "RemoteDebugConfig"):
            if name in changes:
                self.request[name] = self.request.get(name, {}) | changes[name]

    def stop(self) -> None:
        """`StopTrainingJob`; it may have ended a moment ago."""
        with self._entering:
            if self.status == "InProgress":
                self._enter("Stopping")
            self._stop.set()

    def delete(self) -> None:
        """`DeleteTrainingJob` of one that has ended."""
        self.status, self.deleted = "Deleting", time.time()

    def interrupt(self) -> None:
        """Take the spot instances back; others are there at once."""
        self._interrupt.set()

    def kill(self) -> None:
        """End all processes, and wait for the thread."""
        self.stop()
        for host in self.hosts:
            host.signal(signal.SIGKILL)
        self._thread.join()

    def _run(self) -> None:
        if self.reason is not None:
            self._end("Failed")
            return
        while not self._is_over() and self._has_capacity():
            self._start_hosts()
            if not self._wait():
                break
            self._enter("Interrupted")
            self._interrupt.clear()
            self._enter("Starting")
        self._conclude()

    def _is_over(self) -> bool:
        """Whether it was stopped, or a limit of its request is exceeded."""
        limits, now = self.request["StoppingCondition"], self._clock()
        training = now - self.transitions[-1]["StartTime"] if self.secondary == "Training" else 0.0
        if not self._limit and now - self.created > limits.get("MaxWaitTimeInSeconds", float("inf")):
            self._limit = "MaxWaitTimeExceeded"
        elif not self._limit and self._trained + training > limits["MaxRuntimeInSeconds"]:
            self._limit = "MaxRuntimeExceeded"
        return self._stop.is_set() or bool(self._limit)

    def _has_capacity(self) -> bool:
        """Wait for instances; answers whether there are any before it is over."""
        if self._capacity is None or self._capacity.is_set():
            return True
        self._enter("Pending")
        while not self._capacity.is_set() and not self._is_over():
            time.sleep(_POLL_SECONDS)
        return not self._is_over()

    def _start_hosts(self) -> None:
        self._enter("Downloading")
        self._lives += 1
        self._is_selected = True
        count = self.request["ResourceConfig"]["InstanceCount"]
        addresses = [f"{self._network}.{index}" for index in range(1, count + 1)]
        self.hosts = [self._host(f"algo-{index}", address) for index, address in enumerate(addresses, start=1)]
        for host in self.hosts:
            host.prepare(self.request, addresses, self._instance_type)
            host.start(self.request)
        self._enter("Training")

    def _host(self, name: str, address: str) -> Host:
        root = self._folder / f"life-{self._lives}" / name / "ml"
        return Host(root, address, name, self._command, self._file_systems)

    def _wait(self) -> bool:
        """Wait for the end of the hosts; answers whether they were interrupted, and others are to start."""
        asked_at: float | None = None
        interrupted = False
        while any(host.exit_code is None for host in self.hosts):
            interrupted = interrupted or self._interrupt.is_set()
            failed = any(host.exit_code for host in self.hosts)
            if asked_at is None and (interrupted or failed or self._is_over()):
                asked_at = time.monotonic()
                self._signal(signal.SIGTERM)
            if asked_at is not None and time.monotonic() - asked_at > _GRACE_SECONDS:
                self._signal(signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        self._trained += self._clock() - self.transitions[-1]["StartTime"]
        return interrupted and not self._is_over()

    def _conclude(self) -> None:
        failed = [host for host in self.hosts if host.exit_code]
        if self._stop.is_set():
            self._end("Stopped")
        elif self._limit:
            self._enter("Stopping")
            self._end(self._limit)
        elif failed:
            said = next((host.failure() for host in failed if host.failure()), "")
            self.reason = f"AlgorithmError: {said}, exit code: {failed[0].exit_code}"
            self._end("Failed")
        else:
            self._enter("Uploading")
            self._end("Completed")

    def _signal(self, number: signal.Signals) -> None:
        for host in self.hosts:
            host.signal(number)

    def _end(self, secondary: str) -> None:
        self.ended = self._clock()
        self._enter(secondary)

    def _enter(self, secondary: str) -> None:
        with self._entering:
            if self._stop.is_set() and secondary not in FOLLOWING["Stopping"]:
                return  # It is being stopped, whatever its thread does meanwhile.
            require_follows(secondary, self.secondary)
            now = self._clock()
            if self.transitions:
                self.transitions[-1]["EndTime"] = now
            self.transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": ""})
            if secondary == "Downloading":  # The first of what is done on instances.
                self.started = self.started or now
            self.secondary, self.status = secondary, STATUSES[secondary]
