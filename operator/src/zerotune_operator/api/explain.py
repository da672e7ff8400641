"""A field of a kind as text, from the schema that the API server has."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from zerotune_operator.api.crd import KINDS, Kind, resource_schema
from zerotune_operator.api.jobs import GROUP, VERSION
from zerotune_operator.api.schema import Schema
from zerotune_trainer.errors import ConfigurationError

_WIDTH = 100


def explain(field: str) -> str:
    """Describe `KIND.FIELD.FIELD...`, KIND being a kind's name, plural or short name in any case.

    Raises:
        ConfigurationError: there is no such kind or field.
    """
    name, *path = field.removesuffix(".").split(".")
    kind = _kind(name)
    schema = resource_schema(kind)
    for index, part in enumerate(path):
        schema = _child(schema, part, ".".join([name, *path[:index]]))
    return "\n".join(_page(kind, path, schema))


def _kind(name: str) -> Kind:
    names = {known.lower(): kind for kind in KINDS for known in (kind.name, kind.plural, kind.short_name)}
    if name.lower() in names:
        return names[name.lower()]
    close = get_close_matches(name.lower(), names, n=1)
    raise ConfigurationError(
        f"{name!r} is not a kind of {GROUP}/{VERSION}",
        f"did you mean {close[0]}?" if close else f"there are {' and '.join(kind.name.lower() for kind in KINDS)}",
    )


def _child(schema: Schema, name: str, parent: str) -> Schema:
    properties = _properties(schema)
    if name in properties:
        found: Schema = properties[name]
        return found
    close = get_close_matches(name, properties, n=1)
    known = f"it has {', '.join(properties)}" if properties else "it has no fields"
    raise ConfigurationError(f"{parent} has no field {name!r}", f"did you mean {close[0]}?" if close else known)


def _properties(schema: Schema) -> Schema:
    """The fields below a field; those of its items where it is a list."""
    found: Schema = schema.get("items", schema).get("properties", {})
    return found


def _page(kind: Kind, path: list[str], schema: Schema) -> Iterator[str]:
    yield f"KIND:     {kind.name} ({GROUP}/{VERSION})"
    if path:
        yield f"FIELD:    {'.'.join(path)} <{type_name(schema)}>{_default(schema)}"
    yield ""
    yield from _wrapped(schema.get("description", ""), "  ")
    if limits := list(_limits(schema)):
        yield ""
        yield "VALUES:"
        yield from (f"  {limit}" for limit in limits)
    if rules := schema.get("x-kubernetes-validations", []):
        yield ""
        yield "RULES:"
        for rule in rules:
            yield from _wrapped(rule["message"], "  - ", "    ")
    if properties := _properties(schema):
        yield ""
        yield "FIELDS:"
        required = schema.get("items", schema).get("required", [])
        for name, child in properties.items():
            yield f"  {name} <{type_name(child)}>{_default(child)}{' -required-' if name in required else ''}"
            yield from _wrapped(child.get("description", ""), "      ")


def type_name(schema: Schema) -> str:
    """The type of a field as `kubectl explain` writes it."""
    if schema.get("x-kubernetes-int-or-string"):
        return "IntOrString"
    if schema.get("type") == "array":
        return f"[]{type_name(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map[string]{type_name(schema['additionalProperties'])}"
    kind: str = schema.get("type", "any")
    return "Object" if kind == "object" else kind


def _default(schema: Schema) -> str:
    if "default" not in schema or isinstance(schema["default"], dict):
        return ""
    return f" = {json.dumps(schema['default'])}"


def _limits(schema: Schema) -> Iterator[str]:
    if "enum" in schema:
        yield ", ".join(str(value) for value in schema["enum"])
    for each in ("items", "additionalProperties"):
        if isinstance(schema.get(each), dict):
            yield from (f"each {limit}" for limit in _limits(schema[each]))
    for key, sign, strict, exclusive in (
        ("minimum", ">=", ">", "exclusiveMinimum"),
        ("maximum", "<=", "<", "exclusiveMaximum"),
    ):
        if key in schema:
            yield f"{strict if schema.get(exclusive) else sign} {schema[key]}"
    for key, text in (
        ("pattern", "matches {}"),
        ("minLength", "at least {} characters"),
        ("maxLength", "at most {} characters"),
        ("minItems", "at least {} items"),
        ("maxItems", "at most {} items"),
    ):
        if key in schema:
            yield text.format(schema[key])


def _wrapped(text: Any, first: str, further: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=first if further is None else further,
        break_on_hyphens=False,
    )
