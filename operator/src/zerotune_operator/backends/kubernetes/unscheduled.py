"""What a pod waits for that has no node yet. Pure.

considered       the condition PodScheduled: the scheduler's reasons, resource by resource
held back        the same condition: somebody has to remove its scheduling gates
not considered   no such condition: no scheduler goes by its schedulerName, or a resource claim of it is missing
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.scheduling import scheduling_hint, scheduling_reasons
from zerotune_operator.backends.kubernetes.troubles import MISSING, Waiting, waiting_for

CLAIM_REASON = "FailedResourceClaimCreation"
"""Of an Event about a pod whose ResourceClaim cannot be made from its template."""

_PATIENCE_SECONDS = 30.0
"""How long a scheduler may take until it has considered a pod, and whoever sets gates until they are removed."""
_UNSCHEDULABLE = "Unschedulable"
_CLAIM = "create the claim in the job's namespace, or name one that is there in pvc://CLAIM/PATH"
_RESOURCE_CLAIM = (
    "create in the job's namespace what resourceClaims under backend.kubernetes.pod.spec names, or name one that is "
    "there"
)
_GATES = "whoever set the gates has to remove them: without such a controller, leave schedulingGates out"
_SCHEDULER = (
    "name a scheduler that runs in the cluster in schedulerName under backend.kubernetes.pod.spec, or leave it out"
)


def is_unscheduled(pod: Object) -> bool:
    """Whether a pod has no node and none is on the way."""
    placed = pod_state.condition(pod, "PodScheduled")
    return placed["status"] == "False" if placed is not None else pod_state.node(pod) is None and not _has_states(pod)


def waits_for_node(pod: Object, events: Sequence[Object], now: datetime | None) -> Waiting | None:
    """What a pod without a node waits for; None: it comes by itself.

    Args:
        pod: The pod.
        events: Events about it, the latest last.
        now: The time; without it, nothing is known of how long the pod has waited.
    """
    placed = pod_state.condition(pod, "PodScheduled")
    if placed is not None and placed.get("reason") in (_UNSCHEDULABLE, "SchedulerError"):
        return _of_scheduler(placed.get("message", ""))
    if failed := [event for event in events if event.get("reason") == CLAIM_REASON]:
        return waiting_for(MISSING, failed[-1]["message"], _RESOURCE_CLAIM)
    if now is None or pod_state.age_seconds(pod, now) < _PATIENCE_SECONDS:
        return None
    if placed is not None:
        gates = ", ".join(each["name"] for each in pod["spec"].get("schedulingGates", ()))
        return waiting_for("SchedulingGated", f"scheduling gates hold the pod back: {gates}", _GATES)
    return _not_considered(pod)


def _has_states(pod: Object) -> bool:
    """Whether a node reports on its containers."""
    return bool(pod_state.container_states(pod))


def _of_scheduler(message: str) -> Waiting:
    if claim := re.search(r'persistentvolumeclaim "\S+" [^.]+', message):
        return waiting_for(MISSING, claim[0], _CLAIM)
    if "unbound immediate PersistentVolumeClaims" in message:
        hint = "see `kubectl get pvc`: its storage class must be there and able to provide it"
        return waiting_for(MISSING, "a PersistentVolumeClaim of the pod is not bound to a volume", hint)
    return waiting_for(_UNSCHEDULABLE, scheduling_reasons(message), scheduling_hint(message))


def _not_considered(pod: Object) -> Waiting:
    unseen = f"no scheduler has considered the pod for {_PATIENCE_SECONDS:g} s"
    if claims := pod["spec"].get("resourceClaims"):
        names = ", ".join(each["name"] for each in claims)
        return waiting_for(MISSING, f"{unseen}: it has the resource claims {names}", _RESOURCE_CLAIM)
    name = pod["spec"].get("schedulerName", "default-scheduler")
    return waiting_for(_UNSCHEDULABLE, f"{unseen}: its schedulerName is {name!r}", _SCHEDULER)
