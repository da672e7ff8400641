"""Why a pod ended: its termination message, or what the cluster did to it. Pure.

DisruptionTarget, machine lost > Preempted, Evicted, NodeLost     unless the launcher had failed by itself before
deleted, while its Job goes on > Deleted
killed for lack of memory      > OutOfMemory
the launcher never ran         > ContainerStart, StorageLimit, PodFailed
a termination message          > what it reports
"""

from __future__ import annotations

from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.layout import as_written
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.waiting import could_not_start
from zerotune_operator.backends.reports import read_failure
from zerotune_operator.lifecycle.observation import DISRUPTIONS
from zerotune_trainer.errors import (
    ConfigurationError,
    Failure,
    InternalError,
    KilledError,
    OutOfMemoryError,
    PeerLostError,
    StoppedError,
    TemporaryError,
)

_FOLLOWS = {StoppedError.failure_class, KilledError.failure_class, PeerLostError.failure_class}
"""What a launcher reports whose pod is taken away."""
_UNEXPLAINED = {InternalError.failure_class, KilledError.failure_class, PeerLostError.failure_class}
"""What a launcher reports that does not know why a process ended."""
_DISRUPTIONS = {
    "PreemptionByScheduler": ("Preempted", "a pod of higher priority took its place; runPolicy.priorityClass decides"),
    "EvictionByEvictionAPI": ("Evicted", "its node is being drained, or somebody asked for the eviction"),
    "DeletionByTaintManager": ("NodeLost", "its node did not answer, or got a taint that the pod does not tolerate"),
    "DeletionByPodGC": ("NodeLost", "its node was removed from the cluster"),
    "TerminationByKubelet": (
        "Evicted",
        "the node ran out of something or shuts down; what the pod asks for is kept free",
    ),
}
_KUBELET_PREEMPTION = ("Preempted", "a pod that the node cannot do without took its place")
_RESUMES = "the job goes on from its last checkpoint, and the restart is not counted"
_MEMORY_HINT = (
    "raise topology.memory, lower the batch of a device (training.perDeviceTrainBatchSize, perDeviceBatchSize) or "
    "data.maxLength, "
    "set zero.stage or offload otherwise, or use more nodes"
)
# What a kubelet that was away, or whose machine restarted, reports of containers that it has lost.
_NO_COMMAND = (126, 127)
"""Exit codes of a process that cannot execute, or does not find, the command that it is to start (POSIX)."""
_LOST_WITH_MACHINE = {"ContainerStatusUnknown", "Unknown"}


def failure_of(pod: Object, *, job_goes_on: bool) -> Failure | None:
    """Why a pod that has ended failed; None: it did not, or nothing is known but its exit code.

    Args:
        pod: The pod.
        job_goes_on: Whether its Job is to run: a pod that ends with its Job is not disrupted.
    """
    state = pod_state.terminated(pod) or {}
    if state.get("exitCode") == 0:
        return None
    own = _explained(pod, state, _reported(state)) or _of_runtime(pod, state)
    taken = _disruption(pod, state) or (_deletion(pod) if job_goes_on else None)
    if taken is not None and (own is None or own.failure_class in _FOLLOWS):
        return taken.model_copy(update={"step": own.step if own else None})
    return own or _of_kubelet(pod, state)


def deleted(pod: str) -> Failure:
    """A pod that is not there any more, though its Job was to go on."""
    return Failure(
        failure_class="Deleted",
        message=f"{pod} was deleted",
        hint=_RESUMES,
        exit_code=StoppedError.exit_code,
    )


def deleted_with_job(pod: str) -> Failure:
    """A pod that is not there any more, as its Job is not to run."""
    return Failure(
        failure_class=StoppedError.failure_class,
        message=f"{pod} was deleted with its Job",
        exit_code=StoppedError.exit_code,
    )


def without_launcher(pod: Object) -> Failure:
    """A pod that ended well without a word of the launcher, which leaves a message however it ends."""
    return Failure(
        failure_class="ContainerStart",
        message=f"pod {pod_state.name(pod)} ended with exit code 0, and zerotune-launch did not run in it",
        hint="leave out `command` and `args` of the container under backend.kubernetes.pod, or have them run "
        "zerotune-launch with the arguments that it is given; for a script of your own there is `method: script`",
        exit_code=ConfigurationError.exit_code,
    )


def with_written_uris(failure: Failure) -> Failure:
    """A failure as a launcher reports it, its paths on claims as a user writes them."""
    texts = {"message": as_written(failure.message), "hint": as_written(failure.hint)}
    return failure.model_copy(update=texts)


def _reported(state: Object) -> Failure | None:
    failure = read_failure(state.get("message", ""))
    return None if failure is None else with_written_uris(failure)


def _explained(pod: Object, state: Object, own: Failure | None) -> Failure | None:
    """What a launcher reports, unless it could not know that the kernel had killed a process of its own."""
    if own is None or state.get("reason") != "OOMKilled" or own.failure_class not in _UNEXPLAINED:
        return own
    return _out_of_memory(pod, state).model_copy(update={"rank": own.rank, "step": own.step})


def _of_runtime(pod: Object, state: Object) -> Failure | None:
    """What the container runtime reports where the launcher left no message."""
    reason, message = state.get("reason", ""), state.get("message", "")
    if reason == "OOMKilled":
        return _out_of_memory(pod, state)
    if state.get("exitCode") in _NO_COMMAND:
        return _no_command(pod, state["exitCode"])
    if (start := could_not_start(reason, message)) is not None:
        return Failure(**start.model_dump() | {"exit_code": state["exitCode"]})
    return None


def _no_command(pod: Object, exit_code: int) -> Failure:
    """A container whose first process does not find the command: another attempt would end alike."""
    images = ", ".join(str(each.get("image")) for each in pod["spec"].get("containers", ()))
    return Failure(
        failure_class="ContainerStart",
        message=f"pod {pod_state.name(pod)} cannot run its command (exit code {exit_code}): the image {images} "
        "does not have it, or cannot execute it",
        hint="name an image of zerotune's trainer in backend.kubernetes.image (the operator's is another one), or "
        "leave it out; correct `command` under backend.kubernetes.pod where you set it",
        exit_code=ConfigurationError.exit_code,
    )


def _of_kubelet(pod: Object, state: Object) -> Failure | None:
    """What the kubelet reports of a pod that nobody else took."""
    if pod_state.phase(pod) != "Failed":
        return None
    if pod["status"].get("reason") == "Evicted":
        return _storage(pod, state)
    return None if state else _never_ran(pod)


def _out_of_memory(pod: Object, state: Object) -> Failure:
    return Failure(
        failure_class=OutOfMemoryError.failure_class,
        message=f"the kernel killed the container of pod {pod_state.name(pod)}: "
        "it reached its memory limit (OOMKilled)",
        hint=_MEMORY_HINT,
        exit_code=state["exitCode"],
    )


def _storage(pod: Object, state: Object) -> Failure:
    """The kubelet evicts a pod for its own use of storage without calling that a disruption: it would happen again."""
    return Failure(
        failure_class="StorageLimit",
        message=f"pod {pod_state.name(pod)} was evicted: {pod['status'].get('message', '').strip()}",
        hint="raise the limit that it names: backend.kubernetes.sharedMemory, or resources and volumes under "
        "backend.kubernetes.pod",
        exit_code=state.get("exitCode", TemporaryError.exit_code),
    )


def _never_ran(pod: Object) -> Failure:
    """A pod that its node rejected, or whose earlier containers failed."""
    status = pod["status"]
    reasons = [status.get("reason"), status.get("message"), *_failed_containers(pod)]
    return Failure(
        failure_class="PodFailed",
        message=f"pod {pod_state.name(pod)} failed before the launcher ran: {': '.join(filter(None, reasons))}",
        hint="see `kubectl describe pod`, its node, and what backend.kubernetes.pod adds to it",
        exit_code=TemporaryError.exit_code,
    )


def _failed_containers(pod: Object) -> list[str]:
    ended = [(name, state.get("terminated", {})) for name, state in pod_state.container_states(pod)]
    return [f"container {name} ended with exit code {end['exitCode']}" for name, end in ended if end.get("exitCode")]


def _disruption(pod: Object, state: Object) -> Failure | None:
    found = pod_state.condition(pod, "DisruptionTarget")
    if found is not None and found["status"] == "True":
        kind, why = _DISRUPTIONS.get(found["reason"], ("Evicted", found["reason"]))
        if pod["status"].get("reason") == "Preempting":
            kind, why = _KUBELET_PREEMPTION
        # The kubelet reports what was short in the pod's message, the others in that of the condition.
        message = pod["status"].get("message") or found.get("message", "")
        return _taken(pod, state, kind, f"{why} ({message.strip()})" if message else why)
    lost = pod_state.phase(pod) == "Unknown" or pod["status"].get("reason") == "NodeLost"
    if lost or state.get("reason") in _LOST_WITH_MACHINE:
        return _taken(pod, state, "NodeLost", "its machine or container runtime went away")
    return None


def _deletion(pod: Object) -> Failure | None:
    return deleted(f"pod {pod_state.name(pod)}") if pod_state.is_deleted(pod) else None


def _taken(pod: Object, state: Object, kind: str, why: str) -> Failure:
    assert kind in DISRUPTIONS
    what = {"Preempted": "was preempted", "Evicted": "was evicted", "NodeLost": "was lost with its node"}[kind]
    return Failure(
        failure_class=kind,
        message=f"pod {pod_state.name(pod)} {what}: {why}",
        hint=_RESUMES,
        exit_code=state.get("exitCode", KilledError.exit_code),
    )
