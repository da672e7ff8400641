"""Why pods wait or ended, from what a real cluster shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.kubernetes.recordings import attempt_of, nodes_of, recording, view_of
from zerotune_operator.backends.kubernetes.diagnosis import failure_of
from zerotune_operator.backends.kubernetes.observe import ClusterView, observe
from zerotune_operator.backends.kubernetes.scheduling import scheduling_hint, scheduling_reasons, short_resources
from zerotune_operator.backends.kubernetes.waiting import Waiting, job_waits_for, waits_for
from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import NodeProgress

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
def test_what_security_forbids_is_reported_in_its_own_words(name: str, kind: str, phrase: str) -> None:
    found = nodes_of(name)[0].failure
    assert found is not None
    assert found.failure_class == kind
    assert phrase in found.message


def test_two_tries_of_the_same_pull_read_the_same() -> None:
    one, other = recording("image-pull")["pods"]
    reasons = [pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] for pod in (one, other)]
    assert reasons == ["ImagePullBackOff", "ErrImagePull"]
    assert waits_for(one, ()) == waits_for(other, ())


@pytest.mark.parametrize("ours", [True, False])
def test_nobody_is_asked_to_make_the_configuration_that_zerotune_makes(ours: bool) -> None:
    """Somebody deleted it. A ConfigMap that the user mounts is another matter."""
    missing = "own" if ours else "theirs"
    said = f'MountVolume.SetUp failed for volume "job" : configmap "{missing}" not found'
    event = {"involvedObject": {"kind": "Pod", "name": "own-0-x"}, "reason": "FailedMount", "message": said}
    owner = {"kind": "Job", "name": "own", "uid": "j"}
    pod = {"metadata": {"name": "own-0-x", "ownerReferences": [owner]}, "spec": {}, "status": {}}
    found = waits_for(pod, [event])
    assert found is not None
    assert (found.failure_class, found.message) == ("MissingReference", said)
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


def test_a_pod_that_nobody_has_looked_at_yet_waits_for_nothing() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"phase": "Pending"}}
    assert waits_for(pod, ()) is None
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "waiting"}
    assert waits_for({**pod, "status": {"conditions": [gated]}}, ()) is None


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
    ("said", "short", "reasons"),
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
def test_the_scheduler_is_read_without_its_thoughts_about_preemption(said: str, short: list[str], reasons: str) -> None:
    assert (short_resources(said), scheduling_reasons(said)) == (short, reasons)
    assert scheduling_hint(said)


def failed(name: str) -> Failure:
    failure = nodes_of(name)[0].failure
    assert failure is not None
    return failure


def test_a_container_out_of_memory_is_distinguished_from_one_that_was_killed() -> None:
    first, second = nodes_of("oom")
    assert (first.state, first.exit_code, first.pod, first.node) == ("ended", 137, "oom-a0-0-mz9nv", "test-bed")
    assert first.failure == Failure(
        failure_class="OutOfMemory",
        message="the kernel killed the container of pod oom-a0-0-mz9nv: it reached its memory limit (OOMKilled)",
        hint="raise topology.memory, lower the batch of a device (training.perDeviceTrainBatchSize, "
        "perDeviceBatchSize) or data.maxLength, set zero.stage or offload otherwise, or use more nodes",
        exit_code=137,
    )
    assert second.failure is not None
    killed = recording("silent")["pods"][0]
    killed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 137
    assert failure_of(killed, job_goes_on=True) is None


def test_a_launcher_that_outlives_its_rank_says_more_than_the_kubelet() -> None:
    said = failed("oom-child")
    assert (said.failure_class, said.rank, said.exit_code) == ("OutOfMemory", 1, 71)


@pytest.mark.parametrize(("kind", "told"), [("Internal", "OutOfMemory"), ("Killed", "OutOfMemory"), ("Data", "Data")])
def test_a_kill_for_lack_of_memory_explains_what_a_launcher_could_not(kind: str, told: str) -> None:
    """The kernel may choose the process that the ranks are forked from, of which the launcher knows only the end."""
    pod = recording("oom-child")["pods"][0]
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    own = Failure(failure_class=kind, message="rank 0 ended with exit code 255", rank=0, step=4, exit_code=70)
    state |= {"message": own.model_dump_json(by_alias=True), "exitCode": 70}
    found = failure_of(pod, job_goes_on=True)
    assert found is not None
    assert (found.failure_class, found.rank, found.step, found.exit_code) == (told, 0, 4, 70)


def test_a_launcher_that_says_why_is_believed() -> None:
    assert failed("data-error") == Failure(failure_class="Data", message="line 7 is bad", rank=0, exit_code=65)


def test_a_launcher_is_reported_with_the_uris_that_the_user_wrote() -> None:
    """At its end, and by HTTP before that."""
    own = Failure(
        failure_class="Data",
        message="/mnt/pvc/corpus/bad.jsonl:3: not JSON",
        hint="see file:///mnt/pvc/corpus/bad.jsonl",
        exit_code=65,
    )
    wanted = own.model_copy(
        update={"message": "pvc://corpus/bad.jsonl:3: not JSON", "hint": "see pvc://corpus/bad.jsonl"}
    )
    pod = recording("data-error")["pods"][0]
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = own.model_dump_json(by_alias=True)
    running = view_of("running")
    answers = {
        pod["metadata"]["name"]: NodeProgress(job="j", attempt=0, host="h", ranks=[], failure=own)
        for pod in running.pods
    }
    seen = observe(attempt_of(running), replace(running, progress=answers)).nodes[0].progress

    assert failure_of(pod, job_goes_on=True) == wanted
    assert seen is not None
    assert seen.failure == wanted


@pytest.mark.parametrize(
    ("name", "kind", "message", "exit_code"),
    [
        ("preempted", "Preempted", "pod preempted-a0-0-jr6wn was preempted: a pod of higher priority", 143),
        ("evicted", "Evicted", "pod evicted-a0-0-r8g6k was evicted: its node is being drained", 143),
        ("node-lost", "NodeLost", "pod node-lost-a0-0-d8tbv was lost with its node: its node did not answer", 137),
        (
            "node-removed",
            "NodeLost",
            "pod removed-a0-0-cd522 was lost with its node: its node was removed from the cluster (PodGC: ",
            137,
        ),
        ("deleted", "Deleted", "pod deleted-a0-0-n7tct was deleted", 143),
    ],
)
def test_a_pod_that_the_cluster_took_is_disrupted(name: str, kind: str, message: str, exit_code: int) -> None:
    taken = next(node for node in nodes_of(name) if node.state == "ended")
    assert taken.disrupted
    assert taken.failure is not None
    assert (taken.failure.failure_class, taken.failure.exit_code) == (kind, exit_code)
    assert taken.failure.message.startswith(message)
    if kind != "NodeLost":
        assert taken.failure.step == 4


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory. "},
            "Evicted",
            "low on resource: memory",
        ),
        ({"reason": "Preempting", "message": "Preempted in order to admit critical pod"}, "Preempted", "critical pod"),
        ({"reason": "Terminated", "message": "imminent node shutdown"}, "Evicted", "imminent node shutdown"),
    ],
)
@pytest.mark.parametrize("ran", [True, False])
def test_a_pod_that_its_kubelet_takes_is_disrupted_whether_it_ran_or_not(
    status: dict[str, str], kind: str, reason: str, ran: bool
) -> None:
    pod = recording("storage")["pods"][0]
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "x"}
    pod["status"] |= status | {"conditions": [disruption]}
    if not ran:
        del pod["status"]["containerStatuses"]
    taken = failure_of(pod, job_goes_on=True)
    assert taken is not None
    assert (taken.failure_class, taken.exit_code) == (kind, 137)
    assert reason in taken.message


def test_a_failure_of_its_own_is_not_excused_by_an_eviction() -> None:
    pod = recording("evicted")["gone"][0]
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    state |= {"exitCode": 65, "message": '{"class":"Data","message":"line 7 is bad","exitCode":65}'}
    own = failure_of(pod, job_goes_on=True)
    assert own is not None
    assert own.failure_class == "Data"


def test_a_pod_that_ends_well_while_it_is_evicted_has_not_failed() -> None:
    pod = recording("evicted")["gone"][0]
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 0
    assert failure_of(pod, job_goes_on=True) is None


def test_a_machine_whose_silence_is_short_has_not_lost_its_pods() -> None:
    pod = recording("node-lost")["pods"][0]
    pod["status"]["conditions"] = [each for each in pod["status"]["conditions"] if each["type"] != "DisruptionTarget"]
    del pod["metadata"]["deletionTimestamp"]
    view = view_of("node-lost")
    seen = observe(attempt_of(view), ClusterView(view.job, (pod,)))
    assert seen.nodes[0].state == "running"


@pytest.mark.parametrize(
    ("name", "kind", "phrase"),
    [
        ("no-command", "ContainerStart", 'exec: "/no-such-program": stat /no-such-program: no such file or directory'),
        ("storage", "StorageLimit", 'Usage of EmptyDir volume "v" exceeds the limit "1Mi"'),
        ("init", "PodFailed", "container fetch ended with exit code 3"),
    ],
)
def test_a_launcher_that_never_ran_or_used_too_much_is_at_fault_itself(name: str, kind: str, phrase: str) -> None:
    node = nodes_of(name)[0]
    assert node.failure is not None
    assert (node.state, node.disrupted, node.failure.failure_class) == ("ended", False, kind)
    assert phrase in node.failure.message
    assert node.failure.hint


def test_a_pod_that_its_node_rejects_is_reported_with_the_reason() -> None:
    pod = recording("silent")["pods"][0]
    pod["status"] = {
        "phase": "Failed",
        "reason": "UnexpectedAdmissionError",
        "message": "Pod was rejected: Allocate failed due to no healthy devices present",
    }
    found = failure_of(pod, job_goes_on=True)
    assert found is not None
    assert found.failure_class == "PodFailed"
    assert found.message == (
        f"pod {pod['metadata']['name']} failed before the launcher ran: UnexpectedAdmissionError: "
        "Pod was rejected: Allocate failed due to no healthy devices present"
    )


def test_containers_that_a_restarted_machine_has_lost_are_lost_with_it() -> None:
    pod = recording("silent")["pods"][0]
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    state |= {"exitCode": 255, "reason": "Unknown"}
    found = failure_of(pod, job_goes_on=True)
    assert found is not None
    assert found.failure_class == "NodeLost"
