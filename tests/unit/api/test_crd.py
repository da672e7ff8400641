"""The CRDs are what the models give, and structural as Kubernetes asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import StringConstraints, TypeAdapter

from zerotune_operator.api.cel import compile_rule
from zerotune_operator.api.crd import KINDS, custom_resource_definition, generated_files
from zerotune_operator.api.status import JobStatus

CRDS = Path(__file__).parents[3] / "crds"
DEFINITIONS = [custom_resource_definition(kind) for kind in KINDS]

# What a structural schema may say (apiextensions-apiserver, pkg/apiserver/schema).
ALLOWED = {
    "type",
    "description",
    "default",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "properties",
    "items",
    "additionalProperties",
    "x-kubernetes-validations",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
}


def _schema(definition: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _walk(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _walk(schema[key], f"{path}[]")


NODES = [node for definition in DEFINITIONS for node in _walk(_schema(definition), definition["spec"]["names"]["kind"])]


@pytest.mark.parametrize(
    ("name", "text"), list(generated_files()), ids=lambda value: value.name if isinstance(value, Path) else ""
)
def test_committed_files_are_what_the_models_give(name: Path, text: str) -> None:
    assert (CRDS / name).read_text() == text
    assert yaml.safe_load(text) in DEFINITIONS


def test_every_node_is_structural() -> None:
    for path, node in NODES:
        assert not node.keys() - ALLOWED, path
        open_ended = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert ("type" in node) or open_ended, path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert set(node.get("required", [])) <= node.get("properties", {}).keys(), path


def test_every_field_is_described() -> None:
    bare = {path for path, node in NODES if "description" not in node and not path.endswith("[]")}
    # ObjectMeta is described by Kubernetes; a CRD may only bound names.
    assert {path for path in bare if ".metadata" not in path} == set()


def test_defaults_are_of_the_kind_that_the_schema_asks_for() -> None:
    for path, node in NODES:
        if "default" not in node:
            continue
        value, kind = node["default"], node.get("type")
        python = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "array": list}
        assert kind is None or isinstance(value, python[kind]), path
        assert "enum" not in node or value in node["enum"], path
        assert "minimum" not in node or value >= node["minimum"], path
        if "properties" in node:
            assert value.keys() <= node["properties"].keys(), path


def test_rules_are_cel_and_blame_fields_that_exist() -> None:
    rules = [(path, node, rule) for path, node in NODES for rule in node.get("x-kubernetes-validations", [])]
    assert len(rules) > 80
    for path, node, rule in rules:
        compile_rule(rule["rule"])
        assert len(rule["message"]) > 20, path
        for name in rule.get("fieldPath", "").split(".")[1:]:
            node = node["properties"][name]


def test_printed_columns_are_fields() -> None:
    for definition in DEFINITIONS:
        for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]:
            node = _schema(definition)
            for name in column["jsonPath"].split(".")[1:]:
                if name == "metadata":
                    break
                node = node["properties"][name]
            else:
                assert node["type"] == column["type"], column


def test_what_kubectl_prints() -> None:
    def columns(priority: int) -> dict[str, str]:
        return {
            definition["spec"]["names"]["shortNames"][0]: " ".join(
                column["name"].upper()
                for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]
                if column.get("priority", 0) == priority
            )
            for definition in DEFINITIONS
        }

    assert columns(0) == {
        "ftj": "METHOD NODES PHASE STEP LOSS TOKENS/S ETA AGE",
        "ij": "ENGINE NODES PHASE STEP FAILED TOKENS/S ETA AGE",
    }
    wide = "ZERO RESTARTS CLASS MESSAGE"
    assert columns(1) == {"ftj": f"CONTROL {wide}", "ij": wide}


def test_patterns_mean_the_same_in_go() -> None:
    for path, node in NODES:
        if "pattern" in node:
            TypeAdapter(Annotated[str, StringConstraints(pattern=node["pattern"])])  # Rust's syntax is Go's, with \p.
            assert not re.search(r"\(\?[=!<P]|\\[dwsbZ]", node["pattern"]), path


def test_status_starts_empty() -> None:
    assert JobStatus().model_dump(exclude_none=True, exclude_defaults=True) == {}
