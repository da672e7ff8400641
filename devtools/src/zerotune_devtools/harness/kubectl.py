"""A namespace of the cluster, through kubectl and nothing else."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Callable
from typing import Any

from zerotune_devtools import chart

Object = dict[str, Any]
_LOG_LINES = 40


class Namespace:
    """What a user with kubectl sees of a namespace."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl here; its standard output.

        Raises:
            AssertionError: it failed; the message is what it printed.
        """
        ended = chart.kubectl("--namespace", self.name, *arguments, stdin=stdin)
        assert ended.returncode == 0, f"kubectl {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def apply(self, *objects: Object) -> None:
        """`kubectl apply` of all of them at once; a warning, of Pod Security for one, is a failure."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        ended = chart.kubectl("--namespace", self.name, "apply", "-f", "-", stdin=listed)
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr

    def patch(self, resource: str, change: Object) -> None:
        """`kubectl patch` as a merge patch; `resource` as kubectl names it: `ftj/cpt`."""
        self.kubectl("patch", resource, "--type=merge", "--patch", json.dumps(change))

    def get(self, resource: str) -> Object:
        """One object; empty where there is none."""
        printed = self.kubectl("get", resource, "-o", "json", "--ignore-not-found")
        return dict(json.loads(printed)) if printed else {}

    def list(self, kind: str, selector: str = "") -> list[Object]:
        """Every object of a kind that a label selector chooses."""
        return list(json.loads(self.kubectl("get", kind, "--selector", selector, "-o", "json"))["items"])

    def attempt(self, name: str, number: int = 0) -> str:
        """Name of the Job, and of the ConfigMap, of an attempt of a job."""
        [job] = self.list("jobs", f"zerotune.dev/job-name={name},zerotune.dev/attempt={number}")
        return str(job["metadata"]["name"])

    def until(self, resource: str, reached: Callable[[Object], bool], seconds: float = 300) -> Object:
        """The object once it is as wanted.

        Raises:
            AssertionError: it was not in time; the message has all that is known of the job.
        """
        deadline = time.monotonic() + seconds
        while not reached(found := self.get(resource)):
            assert time.monotonic() < deadline, f"{resource} is not so after {seconds} s\n{self.describe(resource)}"
            time.sleep(0.7)
        return found

    def phase(self, resource: str, wanted: str, seconds: float = 300) -> Object:
        """The status of a job once it is in a phase.

        Raises:
            AssertionError: it ended in another one, or did not get there in time.
        """
        final = {"Succeeded", "Failed"} - {wanted}

        def reached(job: Object) -> bool:
            now = job.get("status", {}).get("phase")
            assert now not in final, f"{resource} is {now}, not {wanted}\n{self.describe(resource)}"
            return bool(now == wanted)

        return dict(self.until(resource, reached, seconds)["status"])

    def step(self, resource: str, least: int, seconds: float = 300) -> Object:
        """The status of a job that runs and has made so many steps."""

        def reached(job: Object) -> bool:
            status = job.get("status", {})
            assert status.get("phase") not in ("Succeeded", "Failed"), self.describe(resource)
            return bool(status.get("phase") == "Running" and status.get("progress", {}).get("step", 0) >= least)

        return dict(self.until(resource, reached, seconds)["status"])

    def events(self, name: str) -> builtins.list[tuple[str, str]]:
        """Type and reason of each Event about a job, oldest first."""
        printed = self.list("events")
        about = [event for event in printed if event["involvedObject"]["name"] == name]
        about = [event for event in about if event["involvedObject"]["kind"] in ("FineTuneJob", "InferenceJob")]
        ordered = sorted(about, key=lambda event: event["metadata"]["creationTimestamp"])
        return [(event["type"], event["reason"]) for event in ordered]

    def python(self, pod: str, program: str) -> str:
        """What a program prints that runs in a pod."""
        return self.kubectl("exec", pod, "--", "python3", "-c", program)

    def describe(self, resource: str) -> str:
        """What a person would read: description, pods, the end of their logs."""
        name = resource.rpartition("/")[2]
        selector = f"zerotune.dev/job-name={name}"
        logs = ("logs", f"--selector={selector}", "--prefix", f"--tail={_LOG_LINES}", "--all-containers")
        commands = [("describe", resource), ("get", "jobs,pods", "-o", "wide", f"--selector={selector}"), logs]
        ended = [chart.kubectl("--namespace", self.name, *command) for command in commands]
        return "\n".join(each.stdout or each.stderr for each in ended)
