"""The fields of a job that decide how much of a namespace's ResourceQuota its pods use. Pure.

exceeded quota: NAME, requested: limits.cpu=2,pods=1, used: ..., limited: ...
failed quota: NAME: must specify limits.cpu for: trainer; requests.memory for: trainer
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LIMITS_CPU = "resources.limits.cpu of the container trainer under backend.kubernetes.pod (topology.cpu is a request)"
_FIELDS = {
    "limits.cpu": _LIMITS_CPU,
    "requests.cpu": "topology.cpu",
    "cpu": "topology.cpu",
    "limits.memory": "topology.memory",
    "requests.memory": "topology.memory",
    "memory": "topology.memory",
    "pods": "topology.nodes",
    "count/pods": "topology.nodes",
}
_OTHER_REMEDY = "wait until other jobs are done, or have the namespace's ResourceQuota raised"
_REQUIRED = re.compile(r"(?:must specify|;) (?P<resource>[^\s;,]+)(?= for: )")
_REQUESTED = re.compile(r"requested: (?P<amounts>.*?), used: ")


def required_by_quota(reason: str) -> str:
    """What to set where a quota requires every pod to say how much it takes."""
    resources = [found["resource"] for found in _REQUIRED.finditer(reason)]
    return f"set {_fields(resources)}: the namespace's ResourceQuota counts it" if resources else _OTHER_REMEDY


def exceeding_quota(reason: str) -> str:
    """What to lower where a quota is used up."""
    found = _REQUESTED.search(reason)
    if found is None:
        return _OTHER_REMEDY
    return f"lower {_fields(each.partition('=')[0] for each in found['amounts'].split(','))}, {_OTHER_REMEDY}"


def _fields(resources: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(_field(resource) for resource in resources))


def _field(resource: str) -> str:
    if "gpu" in resource.rpartition("/")[2] or "nvidia.com/" in resource:
        return "topology.gpusPerNode"
    return _FIELDS.get(resource, f"{resource} of the container trainer under backend.kubernetes.pod")
