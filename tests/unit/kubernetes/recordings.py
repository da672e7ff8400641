"""Jobs, pods and events as a cluster of version 1.36 showed them, by what had happened to them.

Recorded on one real node; `node-lost` and `node-removed` on nodes without a kubelet. `deleted`: the last version of
pods that were deleted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zerotune_operator.backends.kubernetes.observe import ClusterView, observe
from zerotune_operator.lifecycle.observation import AttemptRef, NodeObservation

FOLDER = Path(__file__).parent / "recorded"


def recording(name: str) -> dict[str, Any]:
    """What was recorded under a name."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def view_of(name: str, *, deleted: bool = True) -> ClusterView:
    """A recording as the operator sees it; without `deleted` after the deleted pods have disappeared."""
    found = recording(name)
    pods = [*found["pods"], *(found.get("deleted", []) if deleted else [])]
    return ClusterView(found["job"], tuple(pods), tuple(found["events"]))


def attempt_of(view: ClusterView) -> AttemptRef:
    """The attempt whose Job it is."""
    assert view.job is not None
    hosts = tuple(f"host-{index}" for index in range(view.job["spec"]["completions"]))
    return AttemptRef(0, hosts, job_uid="u-1", config_digest="d-1", progress_port=1234, output_uri="s3://bucket/run")


def nodes_of(name: str, *, deleted: bool = True) -> tuple[NodeObservation, ...]:
    """What is seen of the nodes of a recording."""
    view = view_of(name, deleted=deleted)
    return observe(attempt_of(view), view).nodes
