"""What the scheduler reports of a pod that fits nowhere, and the field that changes it. Pure.

0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint(s). no new claims ..., preemption: ...
"""

from __future__ import annotations

import re

_REASONS = re.compile(r"^\d+/(?P<nodes>\d+) nodes are available: (?P<reasons>.*)$", re.DOTALL)
# Behind the last reason: what dynamic resource claims and preemption would do.
_TAIL = re.compile(r"\.?\s*(no new claims to deallocate|still not schedulable|preemption:).*$", re.DOTALL)
_SHORT = re.compile(r"Insufficient ([^\s,]+?)(?=[,.]?(?:\s|$))")

_RESOURCE_HINTS = {
    "cpu": "lower topology.cpu, use more and smaller nodes, or wait until one is free",
    "memory": "lower topology.memory, use more and smaller nodes, or wait until one is free",
    "pods": "wait until a node may take more pods",
    "ephemeral-storage": "lower the ephemeral-storage under backend.kubernetes.pod, or use nodes with larger disks",
}
_REASON_HINTS = {
    "node affinity/selector": "change topology.accelerator, or nodeSelector and affinity in backend.kubernetes.pod",
    "were unschedulable": "nodes are cordoned: `kubectl uncordon` them, or add others",
    "Too many pods": "wait until a node may take more pods, or add nodes",
    "volume node affinity": "a volume is bound to another node or zone: let the job run there, or use a shared volume",
    "ReadWriteOncePod access mode": "a claim of this access mode is for one pod: use a claim with the access mode "
    "ReadWriteMany, or topology.nodes: 1",
    "anti-affinity": "change the affinity under backend.kubernetes.pod.spec, or add nodes",
    "topology spread": "change topologySpreadConstraints under backend.kubernetes.pod.spec, or add nodes",
    "untolerated taint": "add a toleration under backend.kubernetes.pod.spec.tolerations, or use other nodes",
    "no nodes available": "add nodes to the cluster",
}


def scheduling_reasons(message: str) -> str:
    """The scheduler's reasons, without what it adds about preemption: `no node takes the pod (3 nodes): 3 ...`."""
    found = _REASONS.match(message)
    if not found:
        return f"no node takes the pod: {message}"
    return f"no node takes the pod (of {found['nodes']}): {_TAIL.sub('', found['reasons']).rstrip('.')}"


def short_resources(message: str) -> list[str]:
    """The resources of which there is too little, by name: `nvidia.com/gpu`, `memory`."""
    return sorted(set(_SHORT.findall(_TAIL.sub("", message))))


def scheduling_hint(message: str) -> str:
    """What to change so that the pod fits, for every reason."""
    resources = [_resource_hint(resource) for resource in short_resources(message)]
    others = [hint for reason, hint in _REASON_HINTS.items() if reason in message]
    return "; ".join([*resources, *others]) or "see `kubectl describe pod`, and the nodes of the cluster"


def _resource_hint(resource: str) -> str:
    if resource.endswith("/gpu") or resource.startswith("nvidia.com/"):
        return f"lower topology.gpusPerNode ({resource}), or add nodes that have as many free"
    return _RESOURCE_HINTS.get(
        resource, f"ask for less {resource} under backend.kubernetes.pod, or add nodes that have it"
    )
