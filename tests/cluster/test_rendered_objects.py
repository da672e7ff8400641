"""The API server takes what the Kubernetes backend renders: strictly, and where Pod Security enforces `restricted`."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from zerotune_devtools import cluster
from zerotune_devtools.checkout import cache_folder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
GOLDEN = Path(__file__).parents[1] / "golden" / "kubernetes"
CASES = [path for path in sorted(GOLDEN.glob("*.yaml")) if not path.name.endswith(".job.yaml")]


def kubectl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [cache_folder() / "bin" / "kubectl", "--kubeconfig", cluster.up(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    name = f"rendered-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    assert kubectl("apply", "-f", "-", stdin=json.dumps(body)).returncode == 0
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def read(path: Path, namespace: str) -> list[dict[str, Any]]:
    objects = list(yaml.safe_load_all(path.read_text()))
    for each in objects:
        each["metadata"]["namespace"] = namespace
    return objects


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_api_server_takes_every_object_without_a_warning(path: Path, namespace: str) -> None:
    """Warnings report Pod Security: a Job is taken whose pods would be rejected."""
    objects = read(path, namespace)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    answer = kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-", stdin=listed
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert len(answer.stdout.splitlines()) == len(objects)


def test_a_pod_that_is_taken_away_is_not_replaced_and_the_others_stay(namespace: str) -> None:
    """The attempt restarts as a whole, and what the others report of it is not lost. No pod is scheduled."""
    job = next(each for each in read(GOLDEN / "cpt.yaml", namespace) if each["kind"] == "Job")
    # The garbage collector would take what belongs to a resource that is not there.
    del job["metadata"]["ownerReferences"]
    job["spec"]["template"]["spec"]["nodeSelector"] = {"zerotune.dev/no-such": "node"}
    assert kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(job)).returncode == 0
    here = ("--namespace", namespace)
    second = "--selector=batch.kubernetes.io/job-completion-index=1"
    kubectl("wait", "pod", second, "--for=create", "--timeout=60s", *here)
    assert kubectl("delete", "pod", second, "--wait=false", *here).returncode == 0
    failed = kubectl(
        "wait", f"job/{job['metadata']['name']}", "--for=jsonpath={.status.failedIndexes}=1", "--timeout=60s", *here
    )
    assert failed.returncode == 0, failed.stderr
    pods = json.loads(kubectl("get", "pods", "-o", "json", *here).stdout)["items"]
    index = "batch.kubernetes.io/job-completion-index"
    left = [each["metadata"]["labels"][index] for each in pods if each["status"]["phase"] != "Failed"]
    assert left == ["0"]
