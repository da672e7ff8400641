"""The models as structural schemas: OpenAPI v3 as Kubernetes takes it in a CustomResourceDefinition.

Made from pydantic's JSON Schema, with what Kubernetes does not take flattened away (`$ref`, `anyOf` with null, `const`,
numeric `exclusiveMinimum`), and the rules of every part as `x-kubernetes-validations`.
"""

from __future__ import annotations

import json
from typing import Any

from zerotune_operator.api.fields import fields_of, part_of
from zerotune_trainer.config.arguments import BOUNDS, Argument, known, settable
from zerotune_trainer.config.base import Rule, Settings

Schema = dict[str, Any]

ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}


def schema_of(model: type[Settings]) -> Schema:
    """The structural schema of a part, fields described, with defaults, bounds and rules."""
    generated = model.model_json_schema(by_alias=True, mode="validation")
    return _Flattener(generated.get("$defs", {})).part(model, generated)


class _Flattener:
    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions

    def part(self, model: type[Settings], schema: Schema) -> Schema:
        """A part: its fields, which of them are required, its rules."""
        properties = {
            name: self.field(part_of(info), schema["properties"][name]) for name, info in fields_of(model).items()
        }
        result: Schema = {"type": "object", "description": _one_line(schema.get("description", ""))}
        if required := schema.get("required"):
            result["required"] = required
        result["properties"] = properties
        if rules := [_validation(rule) for rule in model.rules]:
            result["x-kubernetes-validations"] = rules
        return result

    def field(self, part: type[Settings] | None, schema: Schema) -> Schema:
        """A field: what it holds, with the field's own description and default."""
        described = {"description": _described(schema)} if "description" in schema else {}
        value = self.value(part, schema)
        default = {} if schema.get("default") is None else {"default": _without_null(schema["default"])}
        return value | described | default

    def value(self, part: type[Settings] | None, schema: Schema) -> Schema:
        """What a field holds, be it optional."""
        if "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]] | {
                key: text for key, text in schema.items() if key != "$ref"
            }
        alternatives = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
        if len(alternatives) > 1:
            return dict(ANYTHING)
        if alternatives:
            return self.value(part, alternatives[0])
        if schema.get("type") == "array":
            return self._array(part, schema)
        if schema.get("type") == "object":
            return self._object(part, schema)
        return _scalar(schema)

    def _array(self, part: type[Settings] | None, schema: Schema) -> Schema:
        items = self.value(part, schema["items"])
        return {"type": "array", "items": items} | _only(schema, "minItems", "maxItems") | _extensions(schema)

    def _object(self, part: type[Settings] | None, schema: Schema) -> Schema:
        if part:
            return self.part(part, schema)
        if schema.get("x-arguments"):
            return {"type": "object", "properties": {name: _argument(name) for name in settable()}}
        values = schema.get("additionalProperties")
        if isinstance(values, dict) and values:
            return {"type": "object", "additionalProperties": self.value(None, values)} | _only(schema, "maxProperties")
        return {"type": "object"} | ANYTHING


def _scalar(schema: Schema) -> Schema:
    if "const" in schema:
        schema = schema | {"enum": [schema["const"]]}
    kept = _only(schema, "type", "enum", "format", "pattern", "minLength", "maxLength", "minimum", "maximum")
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in schema:
            kept |= {bound: schema[exclusive], exclusive: True}
    if "type" not in kept and "enum" in kept:
        # A choice of strings and numbers, as in `zero.stage`.
        kept["x-kubernetes-int-or-string"] = True
    if kept.get("type") == "integer" and "format" not in kept:
        kept["format"] = "int64"
    return kept | _extensions(schema)


def _argument(name: str) -> Schema:
    argument = known()[name]
    default = "" if argument.default is None else f" Default there: {argument.default!r}."
    least, most = BOUNDS.get(name, (None, None))
    bounds = {word: value for word, value in {"minimum": least, "maximum": most}.items() if value is not None}
    return _argument_type(argument) | bounds | {"description": f"transformers TrainingArguments.{name}.{default}"}


def _argument_type(argument: Argument) -> Schema:
    if len(argument.types) != 1 or argument.types[0] == "any":
        return dict(ANYTHING)
    kind = argument.types[0]
    if kind == "array":
        return {"type": kind, "items": dict(ANYTHING)}
    if kind == "object":
        return {"type": kind} | ANYTHING
    return {"type": kind} | ({"enum": argument.choices} if argument.choices else {})


def _validation(rule: Rule) -> Schema:
    result = {"rule": rule.cel, "message": rule.message}
    if rule.field:
        result["fieldPath"] = f".{rule.field}"
    return result


def _described(schema: Schema) -> str:
    """The description, with the default as text: `kubectl explain` does not show defaults."""
    text, default = _one_line(schema["description"]), schema.get("default")
    if default in (None, "") or isinstance(default, dict | list):
        return text
    return f"{text} Default: {default if isinstance(default, str) else json.dumps(default)}."


def _without_null(default: Any) -> Any:
    """A default in full: the API server holds it to the part's rules before it fills in what is missing."""
    if not isinstance(default, dict):
        return default
    return {name: _without_null(value) for name, value in default.items() if value is not None}


def _extensions(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}


def _only(schema: Schema, *keys: str) -> Schema:
    return {key: schema[key] for key in keys if key in schema}


def _one_line(text: str) -> str:
    return " ".join(text.split())
