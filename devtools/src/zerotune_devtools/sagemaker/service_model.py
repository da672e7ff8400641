"""Requests and answers of AWS, checked against botocore's service model: patterns, enums and lengths too.

botocore itself checks types, required members and lower bounds, and leaves the rest to the service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session

_JAVA = {r"\p{L}\p{Z}\p{N}": r"\w\s", r"\p{Alnum}": "a-zA-Z0-9"}
_TYPES: dict[str, Any] = {"string": str, "integer": int, "long": int, "boolean": bool, "list": list, "map": dict}


@cache
def service_model() -> Any:
    """botocore's model of SageMaker."""
    return botocore.session.get_session().get_service_model("sagemaker")


def problems_of(operation: str, request: dict[str, Any]) -> list[str]:
    """What is wrong with a request."""
    found = list(_problems(service_model().operation_model(operation).input_shape, request, operation))
    return found or [*_exclusions(request), *_channels(request)]


def _exclusions(request: dict[str, Any]) -> Iterator[str]:
    """What the model says of `InstancePreferences` in words alone."""
    resources = request.get("ResourceConfig", {})
    yield from (f"{name} is read-only" for name in resources if name.startswith("Selected"))
    if "InstancePreferences" not in resources:
        return
    others = {"InstanceType", "InstanceGroups", "InstancePlacementConfig"} & resources.keys()
    others |= {"EnableManagedSpotTraining"} & request.keys()
    yield from (f"InstancePreferences and {name} are mutually exclusive" for name in sorted(others))
    names = [each["InstanceType"] for each in resources["InstancePreferences"]]
    if len(set(names)) < len(names):
        yield f"an instance type appears once in InstancePreferences: {names}"


def _channels(request: dict[str, Any]) -> Iterator[str]:
    """What the model says of channels in words alone."""
    channels = request.get("InputDataConfig", [])
    names = [channel["ChannelName"] for channel in channels]
    if len(set(names)) < len(names):
        yield f"each channel has a name of its own: {names}"
    for channel in channels:
        name, sources = channel["ChannelName"], channel["DataSource"].keys()
        if len(sources) != 1:
            yield f"channel {name} has exactly one data source: {sorted(sources)}"
        if "FileSystemDataSource" in sources and channel.get("InputMode", "File") != "File":
            yield f"channel {name}: a file system has input mode File"
        if "FileSystemDataSource" in sources and "VpcConfig" not in request:
            yield f"channel {name}: a file system needs VpcConfig"


def _problems(shape: Any, value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, _TYPES.get(shape.type_name, object)):
        yield f"{place}: {value!r} is no {shape.type_name}"
        return
    yield from _bounds(shape, value, place)
    if shape.type_name == "structure":
        yield from _members(shape, value, place)
    elif shape.type_name == "list":
        for index, inner in enumerate(value):
            yield from _problems(shape.member, inner, f"{place}[{index}]")
    elif shape.type_name == "map":
        for key, inner in value.items():
            yield from _problems(shape.key, key, f"{place} key {key}")
            yield from _problems(shape.value, inner, f"{place}.{key}")


def _members(shape: Any, value: Any, place: str) -> Iterator[str]:
    yield from (f"{place}.{name} is missing" for name in shape.required_members if name not in value)
    for name, inner in value.items():
        if name not in shape.members:
            yield f"{place}.{name} is unknown"
        else:
            yield from _problems(shape.members[name], inner, f"{place}.{name}")


def _bounds(shape: Any, value: Any, place: str) -> Iterator[str]:
    limits, enum = shape.metadata, getattr(shape, "enum", None)
    size = value if isinstance(value, int) else len(value)
    if size < limits.get("min", size) or size > limits.get("max", size):
        yield f"{place}: {value!r} is not between {limits.get('min')} and {limits.get('max')}"
    if enum and value not in enum:
        yield f"{place}: {value!r} is none of the enum"
    if "pattern" in limits and not re.fullmatch(_python(limits["pattern"]), value):
        yield f"{place}: {value!r} does not match {limits['pattern']}"


def _python(pattern: str) -> str:
    for java, python in _JAVA.items():
        pattern = pattern.replace(java, python)
    return pattern
