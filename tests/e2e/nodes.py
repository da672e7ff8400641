"""A Node without a kubelet: tests do its part, as long as they like, and then it is silent, or removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from zerotune_devtools.harness.kubectl import Namespace, Object

_LABEL = "zerotune.dev/without-kubelet"
_ROOM = {"cpu": "50m", "memory": "1Ti", "ephemeral-storage": "1Ti", "pods": "10"}
"""Enough for the pod of an attempt, too little for the one that reads the model before: that one has to run."""


@dataclass(frozen=True)
class FakeNode:
    """A Node of the cluster."""

    name: str
    namespace: Namespace
    """Where its pods are."""

    def preferred(self, toleration_seconds: int) -> Object:
        """Fields of the spec of a pod that goes there as long as it can.

        Args:
            toleration_seconds: How long it stays there when nothing is heard of the node any more.
        """
        rule = {"key": _LABEL, "operator": "In", "values": [self.name]}
        term = {"weight": 100, "preference": {"matchExpressions": [rule]}}
        silent = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
        return {
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}},
            "tolerations": [
                {"key": _LABEL, "operator": "Equal", "value": self.name},
                # A new node is not ready until the node controller has seen that it is.
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"},
                {**silent, "tolerationSeconds": toleration_seconds},
            ],
        }

    def heartbeat(self) -> None:
        """Say that all is well."""
        patch = json.dumps({"status": {"conditions": [_ready()]}})
        self.namespace.kubectl("patch", "node", self.name, "--subresource=status", "--patch", patch)

    def start(self) -> None:
        """Say of the pods that have been placed here that they run."""
        fields = f"--field-selector=spec.nodeName={self.name},status.phase=Pending"
        for pod in self.namespace.kubectl("get", "pods", fields, "--output=name").split():
            patch = json.dumps({"status": _running()})
            self.namespace.kubectl("patch", pod, "--subresource=status", "--patch", patch)

    def remove(self) -> None:
        """Take it out of the cluster; safe to repeat."""
        self.namespace.kubectl("delete", "node", self.name, "--ignore-not-found")


@contextmanager
def fake_node(namespace: Namespace, name: str) -> Iterator[FakeNode]:
    """A Node until the end of the block, which takes none but pods that prefer it."""
    made = FakeNode(f"{namespace.name}-{name}", namespace)
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": made.name, "labels": {_LABEL: made.name}},
        "spec": {"taints": [{"key": _LABEL, "value": made.name, "effect": "NoSchedule"}]},
        "status": {"capacity": _ROOM, "allocatable": _ROOM, "conditions": [_ready()]},
    }
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(node))
    try:
        yield made
    finally:
        made.remove()


def _ready() -> Object:
    return {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}


def _running() -> Object:
    container = {
        "name": "trainer",
        "image": "any",
        "imageID": "any",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": _now()}},
    }
    conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
    return {"phase": "Running", "containerStatuses": [container], "conditions": conditions}


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
