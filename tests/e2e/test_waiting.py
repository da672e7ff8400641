"""Jobs that lack something: the status names it while they wait, and they go on once it is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.stand_in_jobs import model, stand_in_job
from zerotune_devtools.harness.kubectl import Namespace, Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
_PROMISED_SECONDS = 60


@dataclass(frozen=True)
class Case:
    """A job, and what is reported of it."""

    phase: str
    failure_class: str
    message: str
    """A part of the message, which has the value."""
    remedy: str
    """A part of the hint."""
    job: Object
    """Of `stand_in_job`."""
    has_pod: bool = True
    has_node: bool = False
    """Whether its pod has been given a node, and does not start there."""


def _topology(**asked: Any) -> Object:
    return {"nodes": 1, "cpu": "10m", **asked}


CASES = {
    "image": Case(
        "Pending",
        "ImagePull",
        "the image localhost:1/team/trainer:9 cannot be pulled",
        "backend.kubernetes.image",
        {"kubernetes": {"image": "localhost:1/team/trainer:9"}},
        has_node=True,
    ),
    "memory": Case(
        "Planned",
        "Unschedulable",
        "Insufficient memory",
        "topology.memory",
        {"topology": _topology(memory="64Ti")},
    ),
    "gpus": Case(
        "Planned",
        "Unschedulable",
        "Insufficient example.com/gpu",
        "topology.gpusPerNode",
        {"topology": _topology(gpusPerNode=1, accelerator={"resource": "example.com/gpu", "memory": "80Gi"})},
    ),
    "quota": Case(
        "Planned",
        "QuotaExceeded",
        "exceeded quota: disk, requested: requests.ephemeral-storage=2Mi",
        "ResourceQuota",
        {"container": {"resources": {"requests": {"ephemeral-storage": "2Mi"}}}},
        has_pod=False,
    ),
    "claim": Case(
        "Planned",
        "MissingReference",
        'persistentvolumeclaim "corpus" not found',
        "pvc://CLAIM/PATH",
        {"data": {"train": {"uris": ["pvc://corpus/a.jsonl"]}, "columns": {"text": "text"}, "maxLength": 64}},
    ),
    "model-secret": Case(
        "Pending",
        "MissingReference",
        'secret "model-keys" not found',
        "credentials.secretName",
        {"model": {"uri": "hf://team/model", "credentials": {"secretName": "model-keys"}}},
        has_node=True,
    ),
    "output-secret": Case(
        "Planned",
        "MissingReference",
        'secret "output-keys" not found',
        "credentials.secretName",
        {"output": {"uri": "s3://models/tuned", "credentials": {"secretName": "output-keys"}}},
        has_node=True,
    ),
    "account": Case(
        "Pending",
        "MissingReference",
        'serviceaccount "trainer" not found',
        "backend.kubernetes.serviceAccountName",
        {"kubernetes": {"serviceAccountName": "trainer"}},
        has_pod=False,
    ),
}
"""By the name of the job."""


def _quota(storage: str) -> Object:
    spec = {"hard": {"requests.ephemeral-storage": storage}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "disk"}, "spec": spec}


def _secret(name: str) -> Object:
    values = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def _claim(name: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


REMEDIES = {
    "quota": _quota("1Gi"),
    "claim": _claim("corpus"),
    "output-secret": _secret("output-keys"),
    "account": {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer"}},
}
"""What a job lacks, by its name: for those whose pods then need nothing else."""


@pytest.fixture(scope="module")
def waiting(namespace: Namespace) -> Iterator[dict[str, Object]]:
    """The status of every job once something is reported, by name."""
    jobs = [stand_in_job(name, **case.job) for name, case in CASES.items()]
    namespace.apply(model(), _quota("1Mi"), *jobs)
    yield {name: namespace.until(f"ftj/{name}", _is_reported, seconds=120)["status"] for name in CASES}
    namespace.kubectl("delete", "resourcequota/disk", *(f"ftj/{name}" for name in CASES))


@pytest.fixture(scope="module")
def healed(waiting: dict[str, Object], namespace: Namespace) -> dict[str, Object]:
    """The status of the jobs that got what they lacked."""
    namespace.apply(*REMEDIES.values())
    return {name: namespace.phase(f"ftj/{name}", "Running", seconds=120) for name in REMEDIES}


@pytest.mark.parametrize("name", CASES)
def test_the_status_names_what_a_job_waits_for_where_and_the_remedy(name: str, waiting: dict[str, Object]) -> None:
    case, status = CASES[name], waiting[name]
    cause = status["rootCause"]
    assert (status["phase"], cause["class"]) == (case.phase, case.failure_class)
    assert case.message in cause["message"]
    assert case.remedy in cause["hint"]
    assert bool(re.match(_attempt_of(name), cause.get("pod", ""))) == case.has_pod
    assert ("node" in cause) == case.has_node
    assert not status.get("restarts")


@pytest.mark.parametrize("name", CASES)
def test_conditions_and_describe_report_it_too(name: str, waiting: dict[str, Object], namespace: Namespace) -> None:
    case = CASES[name]
    [running] = [found for found in waiting[name]["conditions"] if found["type"] == "Running"]
    assert running["status"] == "False"
    reported = namespace.kubectl("describe", "ftj", name).partition("Events:")[2]
    assert re.search(rf"Warning +{case.failure_class} .*{re.escape(case.message)}", reported)


def test_all_of_it_is_reported_within_a_minute(
    waiting: dict[str, Object], namespace: Namespace, figures: dict[str, str]
) -> None:
    events = namespace.list("events")
    seconds = {name: _seconds_until_reported(name, events) for name in waiting}
    figures["from the cluster's word to the status, of a job that waits"] = f"{max(seconds.values()):.0f} s at most"
    assert max(seconds.values()) < _PROMISED_SECONDS, seconds


@pytest.mark.parametrize("name", REMEDIES)
def test_a_job_that_gets_what_it_lacked_runs(name: str, healed: dict[str, Object]) -> None:
    status = healed[name]
    assert "rootCause" not in status
    assert {each["type"]: each["status"] for each in status["conditions"]}["Running"] == "True"
    assert (len(status["attempts"]), status["restarts"]) == (1, 0)


def _is_reported(job: Object) -> bool:
    status = job.get("status", {})
    return "rootCause" in status and status["phase"] == CASES[job["metadata"]["name"]].phase


def _attempt_of(name: str) -> str:
    """How the names of objects of a job's attempts begin."""
    return rf"{name}-[0-9a-f]{{8}}-a"


def _seconds_until_reported(name: str, events: list[Object]) -> float:
    """From the first warning of the cluster about a job's pods to the one about the job."""
    warnings = [event for event in events if event["type"] == "Warning"]
    known = [event for event in warnings if re.match(_attempt_of(name), event["involvedObject"]["name"])]
    reported = [event for event in warnings if event["involvedObject"]["name"] == name]
    return (min(map(_time, reported)) - min(map(_time, known))).total_seconds()


def _time(event: Object) -> datetime:
    return datetime.fromisoformat(event.get("firstTimestamp") or event["eventTime"])
