"""Releases of the chart: CRDs that upgrade, and that outlive the release with the jobs."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from zerotune_devtools import chart

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
NEW_FIELD = "chatTemplate"
"""What FineTuneJob's `spec.model` has in this version, and had not in the one before."""


@dataclass(frozen=True)
class Site:
    """A namespace for releases whose kinds are of a group of its own: the cluster's own kinds stay as they are."""

    namespace: str
    group: str
    folder: Path

    def helm(self, command: str, release: str, *arguments: str | Path) -> str:
        """Install or upgrade a release without pods, or uninstall it."""
        # Without objects of the cluster: other releases have them.
        values = {"replicas": 0, "userRoles": {"create": False}, "watch": {"namespaces": [self.namespace]}}
        return chart.helm(
            command,
            release,
            *arguments,
            "--namespace",
            self.namespace,
            values=None if command == "uninstall" else values,
            on_cluster=True,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return chart.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def apply(self, job: chart.Object, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.kubectl("apply", "-f", "-", *arguments, stdin=json.dumps(job))

    def job(self, name: str, **model: str) -> chart.Object:
        """A FineTuneJob that nobody carries out."""
        return {
            "apiVersion": f"{self.group}/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "spec": {
                "method": "sft",
                "model": {"uri": "hf://ORG/NAME", **model},
                "data": {"train": {"uris": ["pvc://data/train.jsonl"]}},
                "output": {"uri": "pvc://models/out"},
            },
        }

    @property
    def crds(self) -> list[str]:
        return [f"crd/finetunejobs.{self.group}", f"crd/inferencejobs.{self.group}"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    token = uuid.uuid4().hex[:8]
    # A group that comes after zerotune.dev: where both are there, `kubectl get ftj` means the real one.
    made = Site(f"release-{token}", f"zz{token}.example.com", tmp_path)
    assert made.kubectl("create", "namespace", made.namespace).returncode == 0
    yield made
    for release in ("zerotune", "tuner"):
        made.helm("uninstall", release, "--ignore-not-found")
    made.kubectl("delete", *made.crds, "--ignore-not-found")
    made.kubectl("delete", "namespace", made.namespace, "--wait=false")


def _previous(site: Site) -> Path:
    """The chart of the version before, which does not know the new field."""
    folder = chart.copy(site.folder, site.group, "0.0.9")
    path = folder / "files" / "crds" / "zerotune.dev_finetunejobs.yaml"
    definition = yaml.safe_load(path.read_text())
    [version] = definition["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["model"]["properties"][NEW_FIELD]
    path.write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder


def _established(site: Site) -> None:
    waited = site.kubectl("wait", *site.crds, "--for=condition=Established", "--timeout=60s")
    assert waited.returncode == 0, waited.stderr


def test_an_upgrade_brings_the_fields_of_the_new_version_and_keeps_the_jobs(site: Site) -> None:
    job = site.job("new", **{NEW_FIELD: "{{ messages }}"})
    site.helm("install", "zerotune", _previous(site))
    _established(site)
    assert site.apply(site.job("old")).returncode == 0
    rejected = site.apply(job)
    assert f'unknown field "spec.model.{NEW_FIELD}"' in rejected.stderr

    site.helm("upgrade", "zerotune", chart.copy(site.folder, site.group, "0.1.0"))

    # The API server serves a changed CRD a moment after it took the change.
    deadline = time.monotonic() + 30
    while (applied := site.apply(job)).returncode and time.monotonic() < deadline:
        time.sleep(0.5)
    assert applied.returncode == 0, applied.stderr
    listed = site.kubectl("get", f"finetunejobs.{site.group}", "-o", "name").stdout
    assert listed.split() == [f"finetunejob.{site.group}/new", f"finetunejob.{site.group}/old"]


def test_uninstall_keeps_the_jobs_and_a_release_of_any_name_takes_over(site: Site) -> None:
    folder = chart.copy(site.folder, site.group, "0.1.0")
    site.helm("install", "zerotune", folder)
    _established(site)
    assert site.apply(site.job("kept")).returncode == 0

    site.helm("uninstall", "zerotune")

    left = site.kubectl("get", "deployment,service,serviceaccount,role,rolebinding,networkpolicy,secret", "-o", "name")
    assert left.stdout.split() == ["serviceaccount/default"]
    assert site.kubectl("get", f"finetunejobs.{site.group}/kept").returncode == 0
    site.helm("install", "zerotune", folder)
    site.helm("uninstall", "zerotune")
    site.helm("install", "tuner", folder, "--take-ownership")
    assert site.kubectl("get", f"finetunejobs.{site.group}/kept").returncode == 0


def test_a_certificate_of_helm_that_is_deleted_is_made_anew_by_an_upgrade(site: Site) -> None:
    folder = chart.copy(site.folder, site.group, "0.1.0")
    with_webhook = ["--set", "admission.enabled=true"]
    site.helm("install", "zerotune", folder, *with_webhook)
    certificate = ["get", "secret/zerotune-admission", "-o", "jsonpath={.data.tls\\.crt}"]
    before = site.kubectl(*certificate).stdout
    assert site.kubectl("delete", "secret/zerotune-admission").returncode == 0

    site.helm("upgrade", "zerotune", folder, *with_webhook)

    assert before != site.kubectl(*certificate).stdout != ""


def test_uninstall_without_keep_leaves_nothing(site: Site) -> None:
    site.helm("install", "zerotune", chart.copy(site.folder, site.group, "0.1.0"), "--set", "crds.keep=false")

    site.helm("uninstall", "zerotune", "--wait")

    assert site.kubectl("get", *site.crds, "--ignore-not-found", "-o", "name").stdout == ""


def test_an_upgrade_keeps_the_certificate_that_helm_made(site: Site) -> None:
    folder = chart.copy(site.folder, site.group, "0.1.0")
    with_webhook = ["--set", "admission.enabled=true"]
    site.helm("install", "zerotune", folder, *with_webhook)
    secret = site.kubectl("get", "secret/zerotune-admission", "-o", "jsonpath={.data}").stdout

    site.helm("upgrade", "zerotune", folder, *with_webhook)

    assert site.kubectl("get", "secret/zerotune-admission", "-o", "jsonpath={.data}").stdout == secret
    bundles = "jsonpath={.webhooks[*].clientConfig.caBundle}"
    name = f"validatingwebhookconfiguration/zerotune.{site.namespace}"
    assert site.kubectl("get", name, "-o", bundles).stdout.split() == [json.loads(secret)["ca.crt"]] * 2
