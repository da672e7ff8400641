"""No value of an overlay breaks the operator, costs the API server seconds, or has the kubelet restart a container."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kubernetes.rendering import INSTALLATION, fine_tune_job, tuned
from zerotune_operator.api.backend import BackendSpec, KubernetesSpec
from zerotune_operator.backends.kubernetes.merged_pod import merge_overlay
from zerotune_operator.backends.kubernetes.pod_schema import PATH
from zerotune_trainer.errors import ConfigurationError

_DEFINITIONS: dict[str, Any] = json.loads(PATH.read_text())["$defs"]
_WRONG: tuple[Any, ...] = ("abc", 5, True, None, {"key": "x"}, {}, [], [5], [None], ["abc"], [{}], [[]], [{"name": 5}])
_WRONG += ({"$patch": "delete"}, {"$patch": []}, {"$retainKeys": [[1]], "emptyDir": {}}, [{"$patch": {}, "name": "a"}])

_JOB, _TEMPLATE = fine_tune_job(), tuned().job["spec"]["template"]


def _fields(definition: str) -> list[str]:
    return list(_DEFINITIONS[f"io.k8s.api.core.v1.{definition}"]["properties"])


def _overlays() -> Iterator[dict[str, Any]]:
    """Every field of a template, its pod, a container, a volume and a variable, each with values of every type."""
    for value in _WRONG:
        yield from ({field: value} for field in ("metadata", "spec"))
        yield from ({"metadata": {field: value}} for field in ("labels", "annotations"))
        yield from ({"spec": {field: value}} for field in _fields("PodSpec"))
        yield from (_container(**{field: value}) for field in _fields("Container"))
        yield from ({"spec": {"initContainers": [{"name": "first", field: value}]}} for field in _fields("Container"))
        yield from ({"spec": {"volumes": [{"name": "tmp", field: value}]}} for field in _fields("Volume"))
        yield from (_container(env=[{"name": "HOME", field: value}]) for field in _fields("EnvVar"))


def _container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "trainer", **fields}]}}


@settings(max_examples=200)
@given(st.sampled_from(list(_overlays())))
def test_a_value_of_another_type_is_rejected_or_merged_wherever_it_stands(overlay: dict[str, Any]) -> None:
    with suppress(ConfigurationError):
        _check(overlay)


@pytest.mark.parametrize("value", [{"key": "x"}, "abc", [5], [None]], ids=json.dumps)
def test_tolerations_that_are_no_list_of_objects_are_rejected_with_their_field(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"spec\.backend\.kubernetes\.pod\.spec\.tolerations.* must be"):
        _check({"spec": {"tolerations": value}})


def _with_quantity(quantity: Any) -> Iterator[dict[str, Any]]:
    claim = {"spec": {"resources": {"requests": {"storage": quantity}}}}
    divisor = {"resourceFieldRef": {"resource": "limits.cpu", "divisor": quantity}}
    yield _container(resources={"limits": {"memory": quantity}})
    yield _container(resources={"requests": {"example.com/links": quantity}})
    yield _container(env=[{"name": "CORES", "valueFrom": divisor}])
    yield {"spec": {"resources": {"limits": {"cpu": quantity}}}}
    yield {"spec": {"overhead": {"cpu": quantity}}}
    yield {"spec": {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": quantity}}]}}
    yield {"spec": {"volumes": [{"name": "own", "ephemeral": {"volumeClaimTemplate": claim}}]}}


@pytest.mark.parametrize(
    "quantity",
    ["1e9999999", "1e-9999999", "1E999", "-1", "9" * 100, 10**400, -1, 1e300],
    ids=lambda each: f"{each!r:.12}",
)
def test_a_quantity_the_api_server_computes_long_with_is_rejected_in_every_field(quantity: Any) -> None:
    for overlay in _with_quantity(quantity):
        with pytest.raises(ConfigurationError, match=r"must be a number below 2\^63"):
            _check(overlay)


@pytest.mark.parametrize("quantity", ["1Gi", "500m", "1e3", 2, 0.5])
def test_usual_quantities_are_taken_in_every_field(quantity: Any) -> None:
    for overlay in _with_quantity(quantity):
        _check(overlay)


@pytest.mark.parametrize("field", ["terminationGracePeriodSeconds", "priority"])
def test_a_whole_number_that_the_api_server_cannot_read_is_rejected(field: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{field} is 1000.* must be a whole number from -\d+ to \d+"):
        _check({"spec": {field: 10**400}})


_RULES = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]
_IMAGE = {"image": INSTALLATION.trainer_image}
_CONFINED = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("containers", {"name": "trainer", "restartPolicy": "Always"}),
        ("containers", {"name": "trainer", "restartPolicy": "OnFailure"}),
        ("containers", {"name": "trainer", "restartPolicy": "Never", "restartPolicyRules": _RULES}),
        ("containers", {"name": "other", "restartPolicy": "Always", **_IMAGE, **_CONFINED}),
        ("initContainers", {"name": "first", "restartPolicy": "OnFailure", **_IMAGE, **_CONFINED}),
        ("initContainers", {"name": "first", "restartPolicyRules": _RULES, **_IMAGE, **_CONFINED}),
    ],
)
def test_no_container_is_restarted_past_the_restarts_of_the_job(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"{kind}\[{fields['name']}\]\.restartPolicy.* cannot be set"):
        _check({"spec": {kind: [fields]}})


def test_a_native_sidecar_may_be_restarted() -> None:
    _check({"spec": {"initContainers": [{"name": "proxy", "restartPolicy": "Always", **_IMAGE, **_CONFINED}]}})


def test_a_hostname_override_is_rejected_as_a_hostname_is() -> None:
    with pytest.raises(ConfigurationError, match=r"spec\.hostnameOverride cannot be set: pods find each other"):
        _check({"spec": {"hostnameOverride": "another"}})


def _check(overlay: dict[str, Any]) -> None:
    spec = _JOB.spec.model_copy(update={"backend": BackendSpec(kubernetes=KubernetesSpec(pod=overlay))})
    merge_overlay(_TEMPLATE, _JOB.model_copy(update={"spec": spec}), INSTALLATION, "trainer")
