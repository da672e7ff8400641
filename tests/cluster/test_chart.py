"""The chart renders what a cluster takes, rejects values that it does not know, and asks for no right too many."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from tests.cluster.value_sets import VALUE_SETS
from zerotune_devtools import chart
from zerotune_devtools.checkout import CHART, CRDS
from zerotune_operator.backends.kubernetes.cache import Cache
from zerotune_operator.controller.metrics import Metrics
from zerotune_trainer.launching.metrics import render_metrics
from zerotune_trainer.progress import NodeProgress, Progress, RankProgress

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
GOLDEN = Path(__file__).parents[1] / "golden" / "chart"
README = (CHART / "README.md").read_text()
_OF_OTHERS = ("monitoring.coreos.com/", "cert-manager.io/")
"""Kinds that the cluster of the tests does not have."""


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace in which Pod Security enforces `restricted`, and warns."""
    name = f"chart-{uuid.uuid4().hex[:8]}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    _kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    _kubectl("--namespace", name, "wait", "serviceaccount/default", "--for=create", "--timeout=60s")
    yield name
    _kubectl("delete", "namespace", name, "--wait=false")


def _kubectl(*arguments: str, stdin: str | None = None) -> str:
    """What kubectl prints, on both streams: the API server's warnings are on the second."""
    run = chart.kubectl(*arguments, stdin=stdin)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


@pytest.mark.parametrize("name", VALUE_SETS)
def test_lint_warns_of_nothing(name: str) -> None:
    printed = chart.helm("lint", "--strict", CHART, values=VALUE_SETS[name])

    assert "[WARNING]" not in printed
    assert "[INFO]" not in printed.replace("[INFO] Chart.yaml: icon is recommended", "")


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_api_server_takes_what_is_rendered_without_a_warning(name: str, namespace: str) -> None:
    values = VALUE_SETS[name]
    if "watch" in values:
        values = values | {"watch": {"namespaces": [namespace]}}
    rendered = chart.render(values, namespace)
    objects = [found for found in rendered if not found["apiVersion"].startswith(_OF_OTHERS)]

    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    printed = _kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=json.dumps(listed)
    )

    assert "Warning" not in printed
    assert printed.count("serverside-applied") == len(objects)


@pytest.mark.parametrize("name", ["default", "everything"])
def test_the_objects_are_those_of_the_golden_file(name: str) -> None:
    """`ZEROTUNE_WRITE_GOLDEN=1` writes the files anew."""
    objects = [found for found in chart.render(VALUE_SETS[name]) if found["kind"] != "CustomResourceDefinition"]
    for dashboard in [found for found in objects if found["kind"] == "ConfigMap"]:
        # No second copy of it.
        text = (CHART / "dashboards" / "zerotune.json").read_text()
        assert dashboard["data"].pop("zerotune.json") == text
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("ZEROTUNE_WRITE_GOLDEN"):
        golden.write_text(yaml.safe_dump_all(objects, sort_keys=False, width=120))

    assert objects == list(yaml.safe_load_all(golden.read_text()))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"admission": {"enable": True}}, "additional properties 'enable' not allowed"),
        ({"image": {"digest": "sha256:0123"}}, "does not match pattern"),
        ({"replicas": -1}, "minimum: got -1, want 0"),
        ({"watch": {"namespaces": ["Team_A"]}}, "does not match pattern"),
        ({"admission": {"failurePolicy": "ignore"}}, "value must be one of 'Ignore', 'Fail'"),
        ({"operator": {"logLevel": "trace"}}, "value must be one of"),
        ({"operator": {"env": {"HF_TOKEN": "secret"}}}, "got object, want array"),
        ({"operator": {"env": [{"value": "secret"}]}}, "missing property 'name'"),
        ({"operator": {"env": [{"name": "NO PROXY"}]}}, "does not match pattern"),
        ({"operator": {"env": [{"name": "PORT", "value": 8080}]}}, "got number, want string"),
        ({"admission": {"enabled": True, "certificate": {"source": "secret"}}}, "certificate.secretName is missing"),
    ],
)
def test_a_value_that_is_not_one_is_rejected(values: chart.Object, complaint: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        chart.render(values)

    assert complaint in caught.value.stderr


def test_a_digest_names_an_image_whatever_its_tag() -> None:
    digest = f"sha256:{4 * '0123456789abcdef'}"
    values = {"image": {"tag": "1", "digest": digest}, "trainer": {"image": {"digest": digest}}}

    [deployment] = [found for found in chart.render(values) if found["kind"] == "Deployment"]

    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"zerotune.dev/operator@{digest}"
    assert f"--trainer-image=zerotune.dev/trainer@{digest}" in container["args"]


@pytest.mark.parametrize("setting", re.findall(r"`([a-z][\w.]*=[^`]+)` \|$", README, re.MULTILINE))
def test_what_the_readme_says_to_set_can_be_set(setting: str) -> None:
    assert chart.render({}, arguments=["--set", setting])


def test_every_value_is_in_the_schema_and_none_is_there_that_has_no_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    assert set(_leaves(schema)) - {"global"} == set(_names(values, schema))


def _leaves(schema: chart.Object, prefix: str = "") -> Iterator[str]:
    for name, inner in schema["properties"].items():
        closed = "properties" in inner and prefix + name not in ("resources", "admission.certificate.issuerRef")
        yield from _leaves(inner, f"{prefix}{name}.") if closed else [prefix + name]


def _names(values: chart.Object, schema: chart.Object, prefix: str = "") -> Iterator[str]:
    leaves = set(_leaves(schema, prefix))
    for name, value in values.items():
        if prefix + name in leaves or not isinstance(value, dict) or name not in schema["properties"]:
            yield prefix + name
        else:
            yield from _names(value, schema["properties"][name], f"{prefix}{name}.")


@pytest.mark.parametrize("name", ["default", "namespaces"])
def test_the_operator_may_do_this_and_no_more(name: str) -> None:
    roles = [found for found in chart.render(VALUE_SETS[name]) if found["kind"] in ("Role", "ClusterRole")]
    jobs = [role for role in roles if role["metadata"]["name"] == "zerotune-jobs"]
    [lease] = [role for role in roles if role["metadata"]["name"] == "zerotune-lease"]

    expected_places = {"default": [("ClusterRole", None)], "namespaces": [("Role", "team-a"), ("Role", "team-b")]}
    assert [(role["kind"], role["metadata"].get("namespace")) for role in jobs] == expected_places[name]
    for role in jobs:
        assert _rights(role) == {
            "zerotune.dev/finetunejobs": "list watch delete",
            "zerotune.dev/inferencejobs": "list watch delete",
            "zerotune.dev/finetunejobs/status": "patch",
            "zerotune.dev/inferencejobs/status": "patch",
            "batch/jobs": "get list watch create patch delete",
            "/pods": "list watch",
            "/services": "get create patch",
            "/configmaps": "get create patch delete",
            "/secrets": "create",
            "networking.k8s.io/networkpolicies": "get create patch",
            "/events": "create list",
        }
    assert (lease["kind"], lease["metadata"]["namespace"]) == ("Role", "zerotune-system")
    assert _rights(lease) == {
        "coordination.k8s.io/leases": "create",
        "coordination.k8s.io/leases zerotune": "get update",
    }


def _rights(role: chart.Object) -> dict[str, str]:
    """Verbs by what they are for."""
    return {
        " ".join([f"{group}/{resource}", *rule.get("resourceNames", [])]): " ".join(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("name", VALUE_SETS)
def test_no_role_reads_secrets_or_has_exec_or_a_wildcard(name: str) -> None:
    roles = [found for found in chart.render(VALUE_SETS[name]) if found["kind"] in ("Role", "ClusterRole")]

    for right, verbs in [pair for role in roles for pair in _rights(role).items()]:
        assert not {"*", "escalate", "bind", "impersonate"} & {*verbs.split(), *right.split("/")}
        assert not {"exec", "attach", "log", "proxy"} & set(right.split("/"))
        assert "secrets" not in right or verbs == "create"


@pytest.mark.parametrize("keep", [True, False])
def test_a_packaged_chart_brings_the_generated_crds_as_they_are(keep: bool, tmp_path: Path) -> None:
    chart.helm("package", CHART, "--destination", tmp_path)
    [package] = tmp_path.glob("*.tgz")

    with tarfile.open(package) as archive:
        packed = [name for name in archive.getnames() if "/files/" in name]
    assert sorted(packed) == [f"zerotune/files/crds/{path.name}" for path in sorted(CRDS.glob("*.yaml"))]
    rendered = [
        found for found in chart.render({"crds": {"keep": keep}}, chart=package) if "Definition" in found["kind"]
    ]
    generated = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
    if keep:
        for definition in generated:
            definition["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    assert sorted(rendered, key=str) == sorted(generated, key=str)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    [shown] = [found for found in chart.render(VALUE_SETS["everything"]) if found["kind"] == "ConfigMap"]
    panels = json.loads(shown["data"]["zerotune.json"])["panels"]
    asked_for = {
        name
        for panel in panels
        for target in panel.get("targets", [])
        for name in re.findall(r"zerotune_\w+", target["expr"])
    }
    progress = Progress.model_validate(
        dict.fromkeys(Progress.model_fields, 1) | {"generation": {"rougeL": 1.0}, "warnings": []}
    )
    rank = RankProgress(rank=0, heartbeat_age_seconds=1, step_age_seconds=1)
    node = NodeProgress(job="cwe", attempt=0, host="a", ranks=[rank], progress=progress)
    served = render_metrics(node).decode() + generate_latest(Metrics(Cache()).registry).decode()
    there_are = set(re.findall(r"^# TYPE (zerotune_\w+)", served, re.MULTILINE))

    assert len(panels) > 10
    assert {name.removesuffix("_bucket") for name in asked_for} <= there_are
