"""Fake nodes for load, by kwok: their pods run at once, and this machine answers for every launcher at `/progress`.

Every pod has this machine's address.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from yarl import URL

from zerotune_devtools.harness.api_server import ApiServer, Object, until
from zerotune_trainer.config import Launch
from zerotune_trainer.progress import NodeProgress, Progress, RankProgress

LABEL = "zerotune.dev/bench"
"""On nodes and as their taint: nothing else is placed there, and kwok manages no other node."""
NODES = 100
PORT = Launch.model_fields["progress_port"].default

_NODE_STATUS = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- {lastHeartbeatTime: {{ $now | Quote }}, lastTransitionTime: {{ $now | Quote }}, message: {{ .message | Quote }},
   reason: {{ .reason | Quote }}, status: {{ .status | Quote }}, type: {{ .type | Quote }}}
{{ end }}
allocatable: {cpu: 1k, memory: 1Ti, pods: 1k}
capacity: {cpu: 1k, memory: 1Ti, pods: 1k}
phase: Running
"""
_POD_STATUS = """
{{ $now := Now }}
conditions:
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: Initialized}
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: Ready}
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: ContainersReady}
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
podIP: ADDRESS
podIPs: [{ip: ADDRESS}]
phase: Running
startTime: {{ $now | Quote }}
"""


@asynccontextmanager
async def fake_nodes(cluster: ApiServer, kwok: Path, kubeconfig: Path) -> AsyncIterator[None]:
    """The nodes, until the end of the block."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "kwok.log").open("wb") as log:
        stages = Path(folder, "stages.yaml")
        stages.write_text("\n---\n".join(json.dumps(stage) for stage in _stages(_own_address(cluster))))
        command: list[str | Path] = [
            kwok,
            "--kubeconfig",
            kubeconfig,
            "--config",
            stages,
            "--node-lease-duration-seconds=40",
        ]
        command += [f"--manage-nodes-with-label-selector={LABEL}=true"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for number in range(NODES):
                await cluster.create("/api/v1/nodes", _node(number))
            await until(lambda: _are_ready(cluster), "the fake nodes are ready")
            yield
        finally:
            await cluster.delete(f"/api/v1/nodes?labelSelector={LABEL}%3Dtrue")
            process.terminate()
            process.wait()


@asynccontextmanager
async def progress_of_all_pods(cluster: ApiServer) -> AsyncIterator[None]:
    """Answer what the operator asks the launchers."""
    report = NodeProgress(
        job="any",
        attempt=0,
        host="any",
        ranks=[RankProgress(rank=0, phase="training", step=1, heartbeat_age_seconds=0, step_age_seconds=0)],
        progress=Progress(step=1, total=100, first_step=0, loss=2.5),
    ).model_dump_json(by_alias=True, exclude_none=True)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=report, content_type="application/json")

    app = web.Application()
    app.router.add_get("/progress", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, _own_address(cluster), PORT).start()
    try:
        yield
    finally:
        await runner.cleanup()


def node_selection() -> Object:
    """What a pod needs to be placed there: a part of its spec."""
    return {
        "nodeSelector": {LABEL: "true"},
        "tolerations": [{"key": LABEL, "operator": "Exists", "effect": "NoSchedule"}],
    }


async def _are_ready(cluster: ApiServer) -> bool:
    nodes = await cluster.items(f"/api/v1/nodes?labelSelector={LABEL}%3Dtrue")
    return len(nodes) == NODES and all(node["status"].get("phase") == "Running" for node in nodes)


def _own_address(cluster: ApiServer) -> str:
    """This machine's, as the API server sees it: one of the loopback cannot be a pod's."""
    server = URL(cluster.url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
        towards.connect((server.host, server.port))
        address: str = towards.getsockname()[0]
        return address


def _node(number: int) -> Object:
    return {
        "metadata": {"name": f"bench-{number}", "labels": {LABEL: "true"}},
        "spec": {"taints": [{"key": LABEL, "value": "true", "effect": "NoSchedule"}]},
    }


def _stages(address: str) -> list[Object]:
    pending = [
        {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
        {"key": ".status.phase", "operator": "In", "values": ["Pending"]},
    ]
    new = [{"key": ".status.phase", "operator": "NotIn", "values": ["Running"]}]
    deleted = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    # A Job lets go of a pod when it has ended, which a kubelet says before it removes the pod.
    running = [deleted, {"key": ".status.phase", "operator": "In", "values": ["Running"]}]
    ended = [deleted, {"key": ".status.phase", "operator": "NotIn", "values": ["Running"]}]
    return [
        _stage("node-ready", "Node", new, {"statusTemplate": _NODE_STATUS}),
        _stage("pod-ready", "Pod", pending, {"statusTemplate": _POD_STATUS.replace("ADDRESS", address)}),
        _stage("pod-end", "Pod", running, {"statusTemplate": "phase: Failed"}),
        _stage("pod-delete", "Pod", ended, {"delete": True}),
    ]


def _stage(name: str, kind: str, expressions: list[Any], then: Object) -> Object:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": expressions},
            "next": then,
        },
    }
