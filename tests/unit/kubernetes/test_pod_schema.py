"""The API server's schema of a pod template takes what we render."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.kubernetes.rendering import CASES, job_of, rendered
from zerotune_operator.backends.kubernetes.merge_keys import MERGE_KEYS
from zerotune_operator.backends.kubernetes.pod_schema import PATH, check_merged, check_patch

SCHEMA = json.loads(PATH.read_text())


def _at(path: str) -> dict[str, Any]:
    """The schema of a field of a pod template."""
    found: dict[str, Any] = SCHEMA
    for name in path.split("."):
        while "$ref" in found or "items" in found:
            found = SCHEMA["$defs"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found["items"]
        found = found["properties"][name]
    return found


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_a_pod_template(case: str) -> None:
    template, topology = rendered(case).job["spec"]["template"], job_of(case).spec.topology

    assert list(check_merged(template, topology, "trainer")) == []


@pytest.mark.parametrize(("path", "keys"), MERGE_KEYS.items())
def test_lists_are_merged_by_the_keys_of_the_api_server(path: str, keys: tuple[str, ...]) -> None:
    assert tuple(_at(path)["x-kubernetes-list-map-keys"]) == keys


@pytest.mark.parametrize(
    "patch", [{"spec": {"hostNetwork": None}}, {"spec": {"securityContext": {"$patch": "replace"}}}]
)
def test_nulls_and_directives_are_no_fields(patch: dict[str, Any]) -> None:
    assert list(check_patch(patch)) == []
