"""What a pod of a job shows, and what is kept of it. Pure: dictionaries, as the API server gives them."""

from __future__ import annotations

from datetime import datetime

from zerotune_operator.backends.kubernetes.objects import (
    FAILURE_ANNOTATIONS,
    INDEX_ANNOTATION,
    Object,
    some,
    trim_metadata,
)
from zerotune_operator.backends.kubernetes.pod_template import CONTAINER
from zerotune_operator.backends.reports import text

_STATUS = ("phase", "reason", "message", "podIP", "startTime")
_CONDITIONS = ("PodScheduled", "Ready", "ContainersReady", "DisruptionTarget")
_CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
_TELLING = ("PodScheduled", "DisruptionTarget", "Ready")
_NAMED = ("schedulingGates", "resourceClaims")
_INIT = ("name", "restartPolicy")
_CONTAINER_STATUS = ("name", "state")


def trim_pod(pod: Object) -> Object:
    """The parts of a pod that show what became of it: a fifth of the whole, which matters with thousands of them."""
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    kept = trim_metadata(metadata)
    if annotations := some(metadata.get("annotations", {}), (INDEX_ANNOTATION, *FAILURE_ANNOTATIONS)):
        kept["annotations"] = annotations
    containers = [some(container, ("name", "image")) for container in spec.get("containers", ())]
    conditions = [
        _short(some(found, _CONDITION)) for found in status.get("conditions", ()) if found["type"] in _CONDITIONS
    ]
    return {
        "metadata": kept,
        "spec": some(spec, ("nodeName", "schedulerName")) | _names_of_parts(spec) | {"containers": containers},
        "status": _short(some(status, _STATUS))
        | {"conditions": conditions}
        | {
            kind: [_container_status(one) for one in status[kind]]
            for kind in ("containerStatuses", "initContainerStatuses")
            if status.get(kind)
        },
    }


def _names_of_parts(spec: Object) -> Object:
    """What may keep a scheduler from considering the pod, or its launcher from being started."""
    parts = {field: [some(each, ("name",)) for each in spec.get(field, ())] for field in _NAMED}
    parts["initContainers"] = [some(each, _INIT) for each in spec.get("initContainers", ())]
    return {field: names for field, names in parts.items() if names}


def _container_status(one: Object) -> Object:
    states = {kind: _short(state) for kind, state in one.get("state", {}).items()}
    return some(one, _CONTAINER_STATUS) | ({"state": states} if states else {})


def _short(state: Object) -> Object:
    """What the node or the container reports, in bounds."""
    return {name: text(value) if isinstance(value, str) else value for name, value in state.items()}


def pod_facts(pod: Object | None) -> object:
    """What a pod shows of how its job fares; equal for two versions of it that show the same. A pod that has just been
    made, or is on its way to a node that can start it, shows no more than one that is not there yet.
    """
    if pod is None:
        return ("Pending", False, [], [])
    states = [_state_facts(name, *state) for name, found in container_states(pod) for state in found.items()]
    conditions = [
        (found["type"], found["status"], found.get("reason"), found.get("message"))
        for found in pod["status"].get("conditions", ())
        if found["type"] in _TELLING and (found["type"], found["status"]) != ("PodScheduled", "True")
    ]
    return (phase(pod), is_deleted(pod), [state for state in states if state], conditions)


def _state_facts(name: str, kind: str, state: Object) -> object:
    if kind == "waiting" and state.get("reason") in (None, "ContainerCreating", "PodInitializing"):
        return None
    return (name, kind, state.get("reason"), state.get("exitCode"))


def newer(one: Object, other: Object) -> Object:
    """Which of two pods of an index counts: one that is not being deleted, the one created last."""
    return max(one, other, key=lambda pod: (not is_deleted(pod), pod["metadata"].get("creationTimestamp", "")))


def index(pod: Object) -> int | None:
    """Its completion index; None for a pod of a Job that is not Indexed, or one that somebody else annotated."""
    value: str = pod["metadata"].get("annotations", {}).get(INDEX_ANNOTATION, "")
    return int(value) if value.isdecimal() and len(value) < 10 else None


def failures_before(pod: Object) -> int:
    """How many pods of its index failed before it, by the Job controller's count."""
    annotations = pod["metadata"].get("annotations", {})
    values = [annotations.get(name, "") for name in FAILURE_ANNOTATIONS]
    return sum(int(value) for value in values if value.isdecimal() and len(value) < 10)


def name(pod: Object) -> str:
    """Its name."""
    return str(pod["metadata"]["name"])


def job_of(pod: Object) -> str | None:
    """The name of the Job that made it."""
    found = _job(pod)
    return None if found is None else str(found["name"])


def is_of(pod: Object, job: Object) -> bool:
    """Whether it was made by a Job, and not by one that had its name before it."""
    found = _job(pod)
    return found is not None and found["uid"] == job["metadata"]["uid"]


def node(pod: Object) -> str | None:
    """The machine it is on."""
    found: str | None = pod["spec"].get("nodeName")
    return found


def phase(pod: Object) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str(pod["status"].get("phase", "Pending"))


def is_deleted(pod: Object) -> bool:
    """Whether somebody asked for its end."""
    return "deletionTimestamp" in pod["metadata"]


def condition(pod: Object, kind: str) -> Object | None:
    """One of its conditions."""
    return next((found for found in pod["status"].get("conditions", ()) if found["type"] == kind), None)


def container_states(pod: Object) -> list[tuple[str, Object]]:
    """Name and state of every container, those that run first before the others: `{"waiting": {...}}`."""
    status = pod["status"]
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return [(one["name"], one.get("state", {})) for one in every]


def is_running(pod: Object) -> bool:
    """Whether the launcher runs."""
    return "running" in dict(container_states(pod)).get(CONTAINER, {})


def terminated(pod: Object) -> Object | None:
    """How the launcher ended: `{"exitCode": 71, "reason": "Error", "message": ..., "finishedAt": ...}`."""
    found: Object | None = dict(container_states(pod)).get(CONTAINER, {}).get("terminated")
    return found


def has_ended(pod: Object) -> bool:
    """Whether the launcher is over, or will never run."""
    return terminated(pod) is not None or phase(pod) in ("Succeeded", "Failed") or is_lost(pod)


def ended_without_launcher(pod: Object) -> bool:
    """Whether the first pod of an attempt ended well without the message that a launcher leaves there."""
    state = terminated(pod)
    return index(pod) == 0 and state is not None and state["exitCode"] == 0 and not state.get("message")


def lingers(pod: Object) -> bool:
    """Whether the launcher has ended and another container goes on, such as a sidecar that something else put in: the
    pod does not end by itself, and keeps its GPUs. Native sidecars, which are init containers, end with the rest.
    """
    others = [one.get("state", {}) for one in pod["status"].get("containerStatuses", ()) if one["name"] != CONTAINER]
    return terminated(pod) is not None and any("running" in state for state in others)


def age_seconds(pod: Object, now: datetime) -> float:
    """For how long it has existed."""
    return (now - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])).total_seconds()


def seconds_running(pod: Object, now: datetime) -> float | None:
    """For how long the launcher runs; None where it does not."""
    began = dict(container_states(pod)).get(CONTAINER, {}).get("running", {}).get("startedAt")
    return (now - datetime.fromisoformat(began)).total_seconds() if began else None


def init_container(pod: Object) -> tuple[str, datetime] | None:
    """The init container that has to end before the launcher starts, and since when it runs. A sidecar, which is
    restarted always, need not end.
    """
    ends = [each["name"] for each in pod["spec"].get("initContainers", ()) if each.get("restartPolicy") != "Always"]
    running = {name: state["running"] for name, state in container_states(pod) if "running" in state}
    found = next((name for name in ends if running.get(name, {}).get("startedAt")), None)
    return (found, datetime.fromisoformat(running[found]["startedAt"])) if found else None


def seconds_placed(pod: Object, now: datetime) -> float | None:
    """For how long it has a node and its launcher has yet to start; None where it has none, or has started."""
    placed = condition(pod, "PodScheduled")
    if placed is None or placed["status"] != "True" or is_running(pod) or has_ended(pod):
        return None
    return (now - datetime.fromisoformat(placed["lastTransitionTime"])).total_seconds()


def ended_at(pod: Object) -> datetime | None:
    """When the launcher ended; where it is not known, when the pod's end was known."""
    finished = (terminated(pod) or {}).get("finishedAt")
    changed = [found.get("lastTransitionTime") for found in pod["status"].get("conditions", ())]
    known = finished or max((time for time in changed if time), default=None)
    return datetime.fromisoformat(known) if known else None


def is_lost(pod: Object) -> bool:
    """Whether its machine is lost: its end was ordered for that, and nobody is there to report it."""
    if pod["status"].get("reason") == "NodeLost" or phase(pod) == "Unknown":
        return True
    disruption, ready = condition(pod, "DisruptionTarget"), condition(pod, "Ready")
    containers_ready = condition(pod, "ContainersReady")
    if not (disruption and ready and containers_ready) or disruption["reason"] != "DeletionByTaintManager":
        return False
    # A kubelet sets both together; the node controller sets only `Ready`, in the place of a kubelet that is silent.
    return bool(ready["status"] != "True" and containers_ready["status"] == "True")


def _job(pod: Object) -> Object | None:
    return next((owner for owner in pod["metadata"].get("ownerReferences", ()) if owner["kind"] == "Job"), None)
