"""The test bed is a Kubernetes: pods run restricted, find each other, get volumes, and leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zerotune_devtools import cluster
from zerotune_devtools.checkout import cache_folder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
OPERATOR_IMAGE = "zerotune.dev/operator:0.1.0"
TRAINER_IMAGE = "zerotune.dev/trainer:0.1.0"


class Namespace:
    """A namespace in which Pod Security enforces `restricted`."""

    def __init__(self, kubeconfig: Path) -> None:
        self.name = f"bed-{uuid.uuid4().hex[:8]}"
        self._kubectl = [cache_folder() / "bin" / "kubectl", "--kubeconfig", kubeconfig]
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted"}}})  # fmt: skip

        self.kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=60s")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = [*self._kubectl, "--namespace", self.name, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, input=stdin).stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def run(self, name: str, image: str, script: str, volumes: list[dict[str, Any]] | None = None) -> str:
        """Run a pod to its end; what it wrote."""
        self.apply(_pod(name, image, ["sh", "-ec", script], volumes or []))
        self.kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=240s")
        return self.kubectl("logs", name)


def _pod(name: str, image: str, command: list[str], volumes: list[dict[str, Any]]) -> dict[str, Any]:
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    container = {
        "name": "main",
        "image": image,
        "command": command,
        "env": [{"name": "DS_ACCELERATOR", "value": "cpu"}, {"name": "OMP_NUM_THREADS", "value": "1"}],
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "hostname": name,
        "subdomain": "peers",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "peers"}}, "spec": spec}


def _claim(name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def kubeconfig() -> Path:
    return cluster.up_with_images()


@pytest.fixture
def namespace(kubeconfig: Path) -> Iterator[Namespace]:
    created = Namespace(kubeconfig)
    yield created
    created.kubectl("delete", "namespace", created.name, "--wait=false")


def test_the_operator_image_runs_restricted_on_a_read_only_root(namespace: Namespace) -> None:
    output = namespace.run(
        "operator", OPERATOR_IMAGE, "id -u; zerotune --help; touch /tmp/x; touch /x && exit 1 || true"
    )

    assert output.startswith("65532\n")
    assert "Usage: zerotune" in output


def test_the_trainer_image_trains_with_ops_that_were_built_into_it(namespace: Namespace) -> None:
    step = """
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from deepspeed.ops.op_builder import AsyncIOBuilder
weight = torch.nn.Parameter(torch.ones(4))
weight.grad = torch.ones(4)
optimizer = DeepSpeedCPUAdam([weight], lr=0.5)
optimizer.step()
AsyncIOBuilder().load()
print([round(value, 3) for value in weight.tolist()])
del optimizer
"""
    output = namespace.run(
        "trainer", TRAINER_IMAGE, f"zerotune-launch --help; command -v gcc && exit 1; python -c '{step}'"
    )

    assert "usage: zerotune-launch" in output
    assert output.endswith("[0.5, 0.5, 0.5, 0.5]\n")


def test_a_pod_finds_another_by_the_name_of_a_headless_service(namespace: Namespace) -> None:
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"app": "peers"}}
    namespace.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers"}, "spec": spec})
    namespace.apply(_pod("first", OPERATOR_IMAGE, ["sleep", "600"], []))
    namespace.kubectl("wait", "pod/first", "--for=condition=Ready", "--timeout=120s")
    address = namespace.kubectl("get", "pod/first", "-o", "jsonpath={.status.podIP}")

    output = namespace.run("second", OPERATOR_IMAGE, "until getent hosts first.peers; do sleep 0.2; done")

    assert output.split()[0] == address


def test_a_volume_outlives_its_pod_and_goes_with_its_claim(namespace: Namespace) -> None:
    namespace.apply(_claim("data"))
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]

    namespace.run("writer", OPERATOR_IMAGE, "echo kept > /data/file", volumes)
    assert namespace.run("reader", OPERATOR_IMAGE, "cat /data/file", volumes) == "kept\n"

    volume = namespace.kubectl("get", "pvc/data", "-o", "jsonpath={.spec.volumeName}")
    namespace.kubectl("delete", "pod/writer", "pod/reader", "pvc/data", "--timeout=120s")
    namespace.kubectl("wait", f"pv/{volume}", "--for=delete", "--timeout=60s")


def test_up_again_leaves_a_healthy_cluster_alone(kubeconfig: Path, namespace: Namespace) -> None:
    assert cluster.up() == kubeconfig

    assert namespace.kubectl("get", "namespace", namespace.name, "-o", "name") == f"namespace/{namespace.name}\n"
