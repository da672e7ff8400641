"""`python -m zerotune_devtools.pod_schema SWAGGER`: the schema of a pod template out of Kubernetes' OpenAPI.

SWAGGER is `api/openapi-spec/swagger.json` of the module k8s.io/kubernetes, or `kubectl get --raw /openapi/v2`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from zerotune_operator.api import quantity
from zerotune_operator.backends.kubernetes import pod_schema

ROOT = "io.k8s.api.core.v1.PodTemplateSpec"
_PREFIX = "#/definitions/"
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_NUMBER_OR_TEXT: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "type": ["string", "number"],
        "pattern": quantity.PATTERN,
        "maxLength": 64,
        "minimum": 0,
        "maximum": 2**63 - 1,
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
}
"""What OpenAPI says in prose only, as `validation.IsValidLabelValue` of apimachinery. Its `resource.ParseQuantity`
takes any exponent, and computes with one of 10 million for seconds: quantities are bounded as those of a job are.
"""
_INTEGERS = {"int32": 2**31, "int64": 2**63}
_LABELS = {
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": "labels",
    "io.k8s.api.core.v1.PodSpec": "nodeSelector",
}
"""Fields whose values are those of labels."""
_KEPT = ("type", "items", "required", "additionalProperties")
_MERGING = ("x-kubernetes-patch-merge-key", "x-kubernetes-patch-strategy", "x-kubernetes-list-map-keys")


def extract(definitions: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema of a pod template that takes no unknown field, with the keys that lists are merged by."""
    found: dict[str, Any] = {}
    waiting = [ROOT]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _strict(name, definitions[name])
            waiting += _references(found[name])
    return {"$ref": f"#/$defs/{ROOT}", "$defs": dict(sorted(found.items()))}


def _strict(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    if name in _NUMBER_OR_TEXT:
        return _NUMBER_OR_TEXT[name]
    schema = _plain(definition)
    if name in _LABELS:
        schema["properties"][_LABELS[name]]["additionalProperties"]["pattern"] = _LABEL_VALUE
    return schema | {"additionalProperties": False} if "properties" in schema else schema


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without what only a reader of documentation needs."""
    if "$ref" in schema:
        plain: dict[str, Any] = {"$ref": schema["$ref"].replace(_PREFIX, "#/$defs/")}
    else:
        plain = {key: schema[key] for key in _KEPT if key in schema}
    if schema.get("type") == "integer":
        limit = _INTEGERS[schema.get("format", "int64")]
        plain |= {"minimum": -limit, "maximum": limit - 1}
    for key in ("items", "additionalProperties"):
        if isinstance(plain.get(key), dict):
            plain[key] = _plain(plain[key])
    if "properties" in schema:
        plain["properties"] = {name: _plain(field) for name, field in schema["properties"].items()}
    return plain | {key: schema[key] for key in _MERGING if key in schema}


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        here = [schema["$ref"].rpartition("/")[2]] if isinstance(schema.get("$ref"), str) else []
        return here + [name for value in schema.values() for name in _references(value)]
    return []


def main() -> None:
    """Write the schema to where the operator reads it."""
    definitions = json.loads(Path(sys.argv[1]).read_text())["definitions"]
    pod_schema.PATH.write_text(json.dumps(extract(definitions), indent=1) + "\n")


if __name__ == "__main__":
    main()
