"""A release that runs: its own test passes, one replica of two leads, and the other takes over."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerotune_devtools import chart
from zerotune_devtools.checkout import CHART, CRDS, cache_folder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
TAKEOVER_SECONDS = 60
ENDLESS = ("--watch", "--follow")


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace with a release of two replicas, in which Pod Security enforces `restricted`."""
    name = f"replicas-{uuid.uuid4().hex[:8]}"
    _kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    _kubectl("create", "namespace", name)
    _kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    # Without objects of the cluster: other releases have them.
    values = {
        "replicas": 2,
        "crds": {"install": False},
        "userRoles": {"create": False},
        "watch": {"namespaces": [name]},
        "admission": {"enabled": True, "failurePolicy": "Fail"},
    }
    install = ["install", "zerotune", CHART, "--namespace", name, "--wait", "--timeout", "180s"]
    chart.helm(*install, values=values, on_cluster=True)
    yield name
    chart.helm("uninstall", "zerotune", "--namespace", name, on_cluster=True)
    _kubectl("delete", "namespace", name, "--wait=false")


def _kubectl(*arguments: str) -> str:
    run = chart.kubectl(*arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout


def _leaders(namespace: str) -> list[str]:
    """The pods that say of themselves that they lead."""
    selector = "app.kubernetes.io/name=zerotune,app.kubernetes.io/component=operator"
    names = _kubectl("get", "pods", "--namespace", namespace, "--selector", selector, "-o", "name").split()
    return [pod for name in names if _leads(namespace, pod := name.removeprefix("pod/"))]


def _leads(namespace: str, pod: str) -> bool:
    answer = chart.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/metrics")
    return bool(re.search(r"^zerotune_leader 1\.0$", answer.stdout, re.MULTILINE))


def test_the_commands_that_an_install_ends_with_run(namespace: str, tmp_path: Path) -> None:
    notes = chart.helm("get", "notes", "zerotune", "--namespace", namespace, on_cluster=True)
    commands = [line.strip() for line in notes.splitlines() if line.startswith(("  kubectl ", "  helm "))]
    job = {
        "apiVersion": "zerotune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "first"},
        "spec": {
            "method": "cpt",
            "model": {"uri": "pvc://models/base"},
            "data": {"train": {"uris": ["pvc://data/text.jsonl"]}},
            "output": {"uri": "pvc://models/out"},
            "runPolicy": {"suspend": True},
        },
    }
    (tmp_path / "FILE.yaml").write_text(json.dumps(job))
    # A shell whose namespace is that of the jobs.
    kubeconfig = shutil.copy(chart.kubeconfig(), tmp_path)
    _in_shell(f"kubectl config set-context --current --namespace {namespace}", kubeconfig)

    printed = {command: _in_shell(command.replace("NAME", "first"), kubeconfig) for command in commands}

    assert len(printed) == 7
    assert "first " in printed["kubectl get ftj --watch"]


def _in_shell(command: str, kubeconfig: str) -> str:
    """What a command prints that works; one that has no end, in its first seconds."""
    path = f"{cache_folder() / 'bin'}:{os.environ['PATH']}"
    endless = command.endswith(ENDLESS)
    ended = subprocess.run(
        ["timeout", "5" if endless else "120", "bash", "-c", command],
        cwd=Path(kubeconfig).parent,
        env=os.environ | {"KUBECONFIG": kubeconfig, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == (124 if endless else 0), f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def test_helm_test_passes(namespace: str) -> None:
    printed = chart.helm("test", "zerotune", "--namespace", namespace, "--timeout", "120s", on_cluster=True)

    assert re.search(r"Phase:\s+Succeeded", printed)


def test_one_of_two_replicas_leads_and_the_other_takes_over_when_it_dies(namespace: str) -> None:
    [first] = _leaders(namespace)
    lease = ["get", "lease/zerotune", "--namespace", namespace, "-o", "jsonpath={.spec.holderIdentity}"]
    assert _kubectl(*lease).startswith(first)

    _kubectl("delete", f"pod/{first}", "--namespace", namespace, "--grace-period=0", "--force")

    deadline = time.monotonic() + TAKEOVER_SECONDS
    while not (leaders := _leaders(namespace)) and time.monotonic() < deadline:
        time.sleep(1)
    assert len(leaders) == 1
    assert leaders != [first]
    assert _kubectl(*lease).startswith(leaders[0])


def test_the_webhook_rejects_what_only_a_plan_can_find(namespace: str) -> None:
    spec = {
        "method": "cpt",
        "model": {"uri": "pvc://models/base"},
        "data": {"train": {"uris": ["pvc://data/text.jsonl"]}},
        "training": {"globalBatchSize": 10},
        "topology": {"nodes": 2, "processesPerNode": 2},
        "output": {"uri": "pvc://models/out"},
    }
    metadata = {"name": "cpt", "namespace": namespace}
    job = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}

    rejected = chart.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(job))
    spec["training"] = {"globalBatchSize": 8}
    admitted = chart.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(job))

    assert rejected.returncode != 0
    assert "set globalBatchSize to 8 or 12, the nearest that fits" in rejected.stderr
    assert (admitted.returncode, admitted.stderr) == (0, "")
