"""Why pods ended, from what a real cluster shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.kubernetes.recordings import attempt_of, nodes_of, recording, view_of
from zerotune_operator.backends.kubernetes.diagnosis import failure_of
from zerotune_operator.backends.kubernetes.observe import ClusterView, observe
from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import NodeProgress


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
    failure = failed("oom-child")
    assert (failure.failure_class, failure.rank, failure.exit_code) == ("OutOfMemory", 1, 71)


@pytest.mark.parametrize(
    ("kind", "expected"), [("Internal", "OutOfMemory"), ("Killed", "OutOfMemory"), ("Data", "Data")]
)
def test_a_kill_for_lack_of_memory_explains_what_a_launcher_could_not(kind: str, expected: str) -> None:
    """The kernel may choose the process that the ranks are forked from, of which the launcher knows only the end."""
    pod = recording("oom-child")["pods"][0]
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    own = Failure(failure_class=kind, message="rank 0 ended with exit code 255", rank=0, step=4, exit_code=70)
    state |= {"message": own.model_dump_json(by_alias=True), "exitCode": 70}
    found = failure_of(pod, job_goes_on=True)
    assert found is not None
    assert (found.failure_class, found.rank, found.step, found.exit_code) == (expected, 0, 4, 70)


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
    pod = recording("evicted")["deleted"][0]
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    state |= {"exitCode": 65, "message": '{"class":"Data","message":"line 7 is bad","exitCode":65}'}
    own = failure_of(pod, job_goes_on=True)
    assert own is not None
    assert own.failure_class == "Data"


def test_a_pod_that_ends_well_while_it_is_evicted_has_not_failed() -> None:
    pod = recording("evicted")["deleted"][0]
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
