"""zerotune on the cluster by helm, with a namespace for jobs. All of it goes at the end, whatever that is."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from zerotune_devtools import chart
from zerotune_devtools.checkout import CHART
from zerotune_devtools.harness.kubectl import Namespace
from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES

RELEASE = "zerotune"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}


@dataclass(frozen=True)
class Installation:
    """A release that works in one namespace alone: other jobs of the cluster are none of the tests' business."""

    system: Namespace
    """Where the operator is."""
    jobs: Namespace
    """Where jobs are. It lets in nothing that is not `restricted`."""

    def metric(self, name: str, **labels: str) -> float:
        """What the operator's samples of a name, with these labels, come to."""
        [pod] = self.system.list("pods", "app.kubernetes.io/name=zerotune")
        where = f"/api/v1/namespaces/{self.system.name}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
        families = text_string_to_metric_families(self.system.kubectl("get", "--raw", where))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@contextmanager
def installed(
    progress_interval: float = 1, others: Sequence[str] = (), folder: Path = CHART, **more: chart.Object
) -> Iterator[Installation]:
    """Install the chart that is in `folder` for a namespace of its own, and for `others`, which are there; with `more`
    values.
    """
    token = uuid.uuid4().hex[:6]
    system, jobs = f"zerotune-{token}-system", f"zerotune-{token}"
    values = {
        "watch": {"namespaces": [jobs, *others]},
        "operator": {"progressIntervalSeconds": progress_interval},
        "podPolicy": ANY_NAMES.model_dump(mode="json", by_alias=True),
        # What was there before the tests is there after them.
        "crds": {"keep": _has_crds()},
        "userRoles": {"create": False},
    }
    with _namespace(system), _namespace(jobs), _release(system, folder, values | more):
        yield Installation(Namespace(system), Namespace(jobs))


@contextmanager
def _release(namespace: str, folder: Path, values: chart.Object) -> Iterator[None]:
    where = ("--namespace", namespace)
    ours = ("--take-ownership", "--force-conflicts")  # of CRDs that are there
    try:
        _helm("install", RELEASE, str(folder), *where, *ours, "--wait", "--timeout", "120s", values=values)
        yield
    finally:
        _helm("uninstall", RELEASE, *where, "--ignore-not-found", "--wait")


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
    made = chart.kubectl("create", "-f", "-", stdin=json.dumps(body))
    assert made.returncode == 0, made.stderr
    try:
        yield
    finally:
        chart.kubectl("delete", "namespace", name, "--timeout=120s")


def _helm(*arguments: str, values: chart.Object | None = None) -> None:
    try:
        chart.helm(*arguments, values=values, on_cluster=True)
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"helm {arguments[0]}: {error.stderr}") from error


def _has_crds() -> bool:
    return chart.kubectl("get", "crd/finetunejobs.zerotune.dev").returncode == 0
