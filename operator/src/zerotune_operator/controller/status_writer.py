"""Telling what came of a turn: the Events first, then one patch of the status; nothing where nothing changed."""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime
from typing import Any

from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.kubernetes.api_errors import ConflictError
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.lifecycle.job_events import EventText, changes
from zerotune_trainer.errors import ZerotuneError

_logger = logging.getLogger(__name__)


def read_status(resource: Object) -> JobStatus:
    """The status that a resource has."""
    return JobStatus.model_validate(resource.get("status") or {})


async def publish(
    client: ClusterClient, resource: Object, before: JobStatus, status: JobStatus, now: datetime
) -> Object:
    """Write down how the status differs from the one that is stored; the resource as it is then.

    An Event has a name made of what it says, so that a turn that is repeated after a crash between the two writes tells
    nothing twice.

    Raises:
        ConflictError: the resource has changed, or is another one by now.
        MissingError: it is gone.
    """
    status = _observed(status, resource["metadata"].get("generation"))
    patch = merge_patch(_data(before), _data(status))
    if not patch:
        return resource
    for text in changes(before, status):
        metadata = resource["metadata"]
        _logger.info("%s %s/%s %s: %s", resource["kind"], metadata["namespace"], metadata["name"], *text[1:])
        try:
            await client.create(event(resource, text, now))
        except ConflictError:
            continue  # Told already.
        except ZerotuneError as error:  # Such as a limit on Events: the status tells the same, and is not to wait.
            _logger.warning("the Event cannot be written: %s", error)
    return await client.patch_status(resource, patch)


def merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What makes `old` into `new` (RFC 7396): null takes a field out, lists are replaced."""
    gone: dict[str, Any] = {name: None for name in old if name not in new}
    return gone | {name: _patched(old.get(name), value) for name, value in new.items() if old.get(name) != value}


def event(resource: Object, text: EventText, now: datetime) -> Object:
    """An Event about a resource."""
    metadata = resource["metadata"]
    said = f"{metadata['uid']} {now:%Y-%m-%d} {text.reason} {text.message}"
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(said.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": resource["apiVersion"],
            "kind": resource["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": text.type,
        "reason": text.reason,
        "message": text.message[:1024],
        "source": {"component": "zerotune"},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }


def _observed(status: JobStatus, generation: int | None) -> JobStatus:
    """The status, and all its conditions, as of a generation: whoever waits for a condition holds it to the newest."""
    conditions = [each.model_copy(update={"observed_generation": generation}) for each in status.conditions]
    return status.model_copy(update={"observed_generation": generation, "conditions": conditions})


def _data(status: JobStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _patched(old: Any, value: Any) -> Any:
    return merge_patch(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
