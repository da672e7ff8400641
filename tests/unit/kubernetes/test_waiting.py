"""What keeps a pod from starting, and what to do about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.kubernetes.recordings import nodes_of, recording, view_of
from zerotune_operator.backends.kubernetes.diagnosis import failure_of
from zerotune_operator.backends.kubernetes.pod_state import trim_pod
from zerotune_operator.backends.kubernetes.scheduling import scheduling_hint, scheduling_reasons, short_resources
from zerotune_operator.backends.kubernetes.waiting import Waiting, job_waits_for, waits_for

WAITING = yaml.safe_load(Path(__file__).with_name("waiting.yaml").read_text())


@pytest.mark.parametrize("name", WAITING)
def test_what_a_node_waits_for_is_named_with_the_remedy(name: str) -> None:
    node = nodes_of(name)[-1]
    assert node.state == "waiting"
    assert node.failure == Waiting.model_validate(WAITING[name])


@pytest.mark.parametrize(
    ("name", "kind", "phrase"),
    [
        ("root", "ContainerStart", "container has runAsNonRoot and image will run as root"),
        ("restricted", "Forbidden", 'violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'),
    ],
)
def test_what_security_forbids_is_reported_with_its_own_message(name: str, kind: str, phrase: str) -> None:
    found = nodes_of(name)[0].failure
    assert found is not None
    assert found.failure_class == kind
    assert phrase in found.message


def test_two_tries_of_the_same_pull_read_the_same() -> None:
    one, other = recording("image-pull")["pods"]
    reasons = [pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] for pod in (one, other)]
    assert reasons == ["ImagePullBackOff", "ErrImagePull"]
    assert waits_for(one, ()) == waits_for(other, ())


@pytest.mark.parametrize(
    ("restarts", "seconds", "reported"),
    [(None, 61, True), (None, 59, False), ("Always", 61, False)],
    ids=["endless", "yet to end", "sidecar"],
)
def test_an_init_container_that_does_not_end_is_named(restarts: str | None, seconds: int, reported: bool) -> None:
    began = datetime(2026, 11, 29, 12, tzinfo=UTC)
    running = {"name": "fetch", "state": {"running": {"startedAt": began.isoformat()}}}
    init = {"name": "fetch", "image": "i"} | ({"restartPolicy": restarts} if restarts else {})
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": began.isoformat()}
    pod = {
        "metadata": {"name": "own-0-x"},
        "spec": {"nodeName": "n", "initContainers": [init]},
        "status": {"phase": "Pending", "conditions": [placed], "initContainerStatuses": [running]},
    }
    found = waits_for(trim_pod(pod), (), began + timedelta(seconds=seconds))
    assert (found is not None) == reported
    if found is not None:
        assert found.failure_class == "InitContainer"
        assert "the init container fetch has not ended: it runs since 2026-11-29T12:00:00Z" in found.message


@pytest.mark.parametrize("ours", [True, False])
def test_nobody_is_asked_to_make_the_configuration_that_zerotune_makes(ours: bool) -> None:
    """Somebody deleted it. A ConfigMap that the user mounts is another matter."""
    missing = "own" if ours else "theirs"
    message = f'MountVolume.SetUp failed for volume "job" : configmap "{missing}" not found'
    event = {"involvedObject": {"kind": "Pod", "name": "own-0-x"}, "reason": "FailedMount", "message": message}
    owner = {"kind": "Job", "name": "own", "uid": "j"}
    pod = {"metadata": {"name": "own-0-x", "ownerReferences": [owner]}, "spec": {}, "status": {}}
    found = waits_for(pod, [event])
    assert found is not None
    assert (found.failure_class, found.message) == ("MissingReference", message)
    assert ("zerotune makes it again" in found.hint) == ours
    assert ("create it" in found.hint) != ours


@pytest.mark.parametrize("code", [126, 127])
def test_an_image_without_the_launcher_is_a_fault_of_the_image_and_not_retried(code: int) -> None:
    """The operator's image in place of the trainer's: tini finds no zerotune-launch."""
    ended = {"name": "trainer", "state": {"terminated": {"exitCode": code, "reason": "Error"}}}
    pod = {
        "metadata": {"name": "own-0-x"},
        "spec": {"containers": [{"name": "trainer", "image": "zerotune.dev/operator:1"}]},
        "status": {"phase": "Failed", "containerStatuses": [ended]},
    }
    found = failure_of(pod, job_goes_on=True)
    assert found is not None
    assert (found.failure_class, found.exit_code) == ("ContainerStart", 64)
    assert "zerotune.dev/operator:1" in found.message
    assert "backend.kubernetes.image" in found.hint


def test_a_pod_that_is_to_run_as_root_is_rejected_with_the_field() -> None:
    message = 'container\'s runAsUser breaks non-root policy (pod: "own-0-x", container: trainer)'
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
    status = {"phase": "Pending", "containerStatuses": [{"name": "trainer", "state": state}]}
    found = waits_for({"metadata": {"name": "own-0-x"}, "spec": {"containers": []}, "status": status}, ())
    assert found is not None
    assert "leave runAsUser out of securityContext under backend.kubernetes.pod.spec" in found.hint


def test_a_claim_for_one_pod_or_node_is_asked_to_be_shared() -> None:
    access = "1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
    placed = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    placed |= {"message": f"0/1 nodes are available: {access}. preemption: 0/1 nodes are available."}
    pod: dict[str, Any] = {"metadata": {"name": "own-1-x"}, "spec": {}, "status": {"conditions": [placed]}}
    attached = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) own-0-x'
    event = {"involvedObject": {"kind": "Pod", "name": "own-1-x"}, "reason": "FailedAttachVolume", "message": attached}
    for found in (waits_for(pod, ()), waits_for({**pod, "status": {}}, [event])):
        assert found is not None
        assert "ReadWriteMany, or topology.nodes: 1" in found.hint


def test_a_kubelet_that_gets_going_is_no_trouble() -> None:
    view = view_of("image-name")
    pod = {**view.pods[0], "status": {"phase": "Pending", "containerStatuses": []}}
    starting = [event for event in view.events if "failed to sync" in event["message"]]
    assert starting
    assert waits_for(pod, starting) is None


def test_a_pod_that_is_not_scheduled_yet_waits_for_nothing() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"phase": "Pending"}}
    assert waits_for(pod, ()) is None
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "waiting"}
    assert waits_for({**pod, "status": {"conditions": [gated]}}, ()) is None


_CREATED = datetime(2026, 1, 1, tzinfo=UTC)
_GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "blocked"}


def _unplaced(*conditions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod without a node, as the watches keep it."""
    metadata = {"name": "own-0-x", "uid": "u", "creationTimestamp": _CREATED.isoformat()}
    spec |= {"containers": [{"name": "trainer", "image": "x"}]}
    return trim_pod({"metadata": metadata, "spec": spec, "status": {"phase": "Pending", "conditions": [*conditions]}})


@pytest.mark.parametrize(
    ("pod", "failure_class", "message", "hint"),
    [
        (_unplaced(schedulerName="volcanoo"), "Unschedulable", "schedulerName is 'volcanoo'", "scheduler that runs"),
        (_unplaced(), "Unschedulable", "schedulerName is 'default-scheduler'", "scheduler that runs"),
        (
            _unplaced(resourceClaims=[{"name": "gpu", "resourceClaimName": "missing"}]),
            "MissingReference",
            "it has the resource claims gpu",
            "create in the job's namespace",
        ),
        (
            _unplaced(_GATED, schedulingGates=[{"name": "example.com/hold"}]),
            "SchedulingGated",
            "hold the pod back: example.com/hold",
            "leave schedulingGates out",
        ),
    ],
    ids=["mistyped-scheduler", "no-scheduler", "missing-resource-claim", "gates"],
)
def test_a_pod_that_no_scheduler_considers_is_reported_after_half_a_minute(
    pod: dict[str, Any], failure_class: str, message: str, hint: str
) -> None:
    assert waits_for(pod, (), _CREATED + timedelta(seconds=29)) is None
    found = waits_for(pod, (), _CREATED + timedelta(seconds=31))
    assert found is not None
    assert found.failure_class == failure_class
    assert message in found.message
    assert hint in found.hint


def test_a_resource_claim_template_that_is_missing_is_reported_by_name() -> None:
    """The message is that of the controller of Kubernetes 1.36."""
    message = 'PodResourceClaim gpu: resource claim template "missing": resourceclaimtemplate.resource.k8s.io "missing"'
    about = {"involvedObject": {"kind": "Pod", "name": "own-0-x"}}
    event = about | {"reason": "FailedResourceClaimCreation", "message": f"{message} not found"}
    found = waits_for(_unplaced(resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "missing"}]), [event])
    assert found is not None
    assert (found.failure_class, found.message) == ("MissingReference", event["message"])


def test_events_of_other_jobs_are_ignored() -> None:
    assert job_waits_for(view_of("quota").events, "another-a0") is None


def test_the_last_reason_of_a_rejection_counts() -> None:
    about = {"involvedObject": {"kind": "Job", "name": "j"}, "reason": "FailedCreate"}
    quota = about | {"message": "Error creating: exceeded quota: a", "lastTimestamp": "2026-01-01T00:00:01Z"}
    denied = 'Error creating: admission webhook "images.example" denied the request: unsigned image'
    webhook = about | {"message": denied, "lastTimestamp": "2026-01-01T00:00:02Z"}
    for events in ([quota, webhook], [webhook, quota]):
        found = job_waits_for(events, "j")
        assert found is not None
        assert found.failure_class == "Forbidden"
        assert found.message == (
            'no pod can be created: admission webhook "images.example" denied the request: unsigned image'
        )


@pytest.mark.parametrize(
    ("message", "short", "reasons"),
    [
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/3.",
            ["nvidia.com/gpu"],
            "no node takes the pod (of 3): 3 Insufficient nvidia.com/gpu",
        ),
        (
            "0/5 nodes are available: 1 Insufficient cpu, 4 Too many pods. preemption: 0/5: 5 Insufficient rdma/hca.",
            ["cpu"],
            "no node takes the pod (of 5): 1 Insufficient cpu, 4 Too many pods",
        ),
        ("no nodes available to schedule pods", [], "no node takes the pod: no nodes available to schedule pods"),
    ],
)
def test_the_scheduler_is_read_without_its_thoughts_about_preemption(
    message: str, short: list[str], reasons: str
) -> None:
    assert (short_resources(message), scheduling_reasons(message)) == (short, reasons)
    assert scheduling_hint(message)
