"""Pods that the cluster takes away: their attempt ends as preempted and is not counted, and the next one runs.

Each is taken by what really does it: the Eviction API, the scheduler, the collection of pods whose Node is deleted, the
taint of a Node that has fallen silent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from tests.e2e.history import watched
from tests.e2e.nodes import FakeNode, fake_node
from tests.e2e.stand_in import IMAGE
from tests.e2e.stand_in_jobs import model, stand_in_job
from zerotune_devtools.harness.kubectl import Namespace, Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
_CLASSES = {"evicted": "Evicted", "outranked": "Preempted", "removed": "NodeLost", "silent": "NodeLost"}
"""What each job runs into, by its name."""
_REASONS = {
    "evicted": "its node is being drained",
    "outranked": "a pod of higher priority took its place",
    "removed": "its node was removed from the cluster",
    "silent": "its node did not answer",
}
_LOSS_SECONDS = 300
"""Pods without a Node are checked every 20 s, and taken when it has been absent for 40 s. A silent Node is left alone
for as long as the cluster likes, 50 s by default, and where many are silent they are given up one after the other."""


@dataclass(frozen=True)
class Loss:
    """A job that lost a pod."""

    pod: Object
    """As it was before."""
    statuses: list[Object]
    """All that the job had until its second attempt ran."""


@pytest.fixture(scope="module")
def losses(namespace: Namespace) -> Iterator[dict[str, Loss]]:
    """What became of each job."""
    with (
        _priorities(namespace) as (low, high),
        fake_node(namespace, "removed") as removed,
        fake_node(namespace, "silent") as silent,
        watched(namespace, "ftj") as history,
    ):
        pair = {"topology": {"nodes": 2, "cpu": "10m"}, "training": {"globalBatchSize": 2, "maxSteps": 10}}
        namespace.apply(
            model(),
            stand_in_job("evicted", **pair),
            stand_in_job("outranked", runPolicy={"priorityClass": low}),
            stand_in_job("removed", pod=removed.preferred(300)),
            stand_in_job("silent", pod=silent.preferred(5)),
        )
        for name in _CLASSES:
            namespace.until(f"ftj/{name}", partial(_runs, nodes=[removed, silent]))
        taken = {name: _last_pod(namespace, name) for name in _CLASSES}
        removed.remove()
        _evict(namespace, taken["evicted"])
        with _rival(namespace, taken["outranked"], high):
            namespace.until("ftj/outranked", _has_lost_an_attempt)
        for name in _CLASSES:
            namespace.until(f"ftj/{name}", _runs_again, seconds=_LOSS_SECONDS)
        yield {name: Loss(pod, history.statuses(name)) for name, pod in taken.items()}
        namespace.kubectl("delete", *(f"ftj/{name}" for name in _CLASSES))
        # Nobody is there who could say that it has ended.
        namespace.kubectl("delete", "pods", "--selector=zerotune.dev/job-name=silent", "--force", "--grace-period=0")


@pytest.mark.parametrize("name", _CLASSES)
def test_the_status_says_which_pod_was_taken_where_and_why(name: str, losses: dict[str, Loss]) -> None:
    loss = losses[name]
    cause = next(status for status in loss.statuses if status.get("phase") == "Restarting")["rootCause"]
    assert cause["class"] == _CLASSES[name]
    assert (cause["pod"], cause["node"]) == (loss.pod["metadata"]["name"], loss.pod["spec"]["nodeName"])
    assert cause["pod"] in cause["message"]
    assert _REASONS[name] in cause["message"]
    assert "the restart is not counted" in cause["hint"]


@pytest.mark.parametrize("name", _CLASSES)
def test_the_next_attempt_runs_and_no_restart_is_counted(name: str, losses: dict[str, Loss]) -> None:
    status = losses[name].statuses[-1]
    first, second = status["attempts"]
    assert (first["outcome"], first["failureClass"]) == ("Preempted", _CLASSES[name])
    assert (status["phase"], second["outcome"], status["restarts"]) == ("Running", "Running", 0)
    assert "rootCause" not in status


@pytest.mark.parametrize("name", _CLASSES)
def test_an_event_reports_the_loss(name: str, losses: dict[str, Loss], namespace: Namespace) -> None:
    metadata, spec = losses[name].pod["metadata"], losses[name].pod["spec"]
    events = namespace.kubectl("describe", "ftj", name).partition("Events:")[2]
    place = f"({metadata['name']}, {spec['nodeName']})"
    assert f"attempt 0 ended: {_CLASSES[name]} {place}: pod {metadata['name']}" in events


@contextmanager
def _priorities(namespace: Namespace) -> Iterator[tuple[str, str]]:
    """Two PriorityClasses, both below that of other pods: a pod of the higher one takes the place of ours alone."""
    values = {f"{namespace.name}-low": -2000, f"{namespace.name}-high": -1000}
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    namespace.apply(*({**kind, "metadata": {"name": name}, "value": value} for name, value in values.items()))
    try:
        yield f"{namespace.name}-low", f"{namespace.name}-high"
    finally:
        namespace.kubectl("delete", "priorityclass", *values)


def _last_pod(namespace: Namespace, name: str) -> Object:
    """The pod of the last node of a job's first attempt."""
    pods = namespace.list("pods", f"zerotune.dev/job-name={name},zerotune.dev/attempt=0")
    return max(pods, key=lambda pod: str(pod["metadata"]["name"]))


def _evict(namespace: Namespace, pod: Object) -> None:
    """As `kubectl drain` does it."""
    metadata = {"name": pod["metadata"]["name"], "namespace": namespace.name}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    where = f"/api/v1/namespaces/{namespace.name}/pods/{metadata['name']}/eviction"
    namespace.kubectl("create", "--raw", where, "-f", "-", stdin=json.dumps(eviction))


@contextmanager
def _rival(namespace: Namespace, pod: Object, priority: str) -> Iterator[None]:
    """A pod that can only be where another one is, and not together with that one."""
    job = {"matchLabels": {"batch.kubernetes.io/job-name": pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]}}
    apart = [{"labelSelector": job, "topologyKey": "kubernetes.io/hostname"}]
    container = {
        "name": "rival",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "priorityClassName": priority,
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": apart}},
        "nodeSelector": {"kubernetes.io/hostname": pod["spec"]["nodeName"]},
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rival"}, "spec": spec})
    try:
        yield
    finally:
        namespace.kubectl("delete", "pod/rival")


def _runs(job: Object, nodes: list[FakeNode]) -> bool:
    for node in nodes:
        node.heartbeat()
        node.start()
    return bool(job.get("status", {}).get("phase") == "Running")


def _has_lost_an_attempt(job: Object) -> bool:
    return bool(job["status"]["attempts"][0]["outcome"] == "Preempted")


def _runs_again(job: Object) -> bool:
    status = job["status"]
    return bool(status["phase"] == "Running" and status["attempts"][-1]["number"] == 1)
