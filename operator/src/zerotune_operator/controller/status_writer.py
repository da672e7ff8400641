"""Writes statuses: the Events first, then one patch; nothing where nothing changed, and not too many at once.

Often all that is new in a status is that an attempt has begun, and seconds later its pods run, which is another patch.
Where many jobs begin at once, those patches would keep the others from beginning: beyond a rate, such a status is
deferred, and is written along with how the pods of the attempt fare.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from datetime import datetime
from typing import Any, NamedTuple

from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.kubernetes.api_errors import ConflictError, MissingError
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.lifecycle.attempts import FINAL, under_way
from zerotune_operator.lifecycle.job_events import EventText, changes
from zerotune_trainer.errors import ZerotuneError

_BURST = 8
"""How many statuses that may be deferred are written at once all the same: a few jobs are shown without delay."""
_PER_SECOND = 1.0
"""How many more of them are written in a second."""

_logger = logging.getLogger(__name__)


def read_status(resource: Object) -> JobStatus:
    """The status that a resource has."""
    return JobStatus.model_validate(resource.get("status") or {})


def observed(status: JobStatus, generation: int | None) -> JobStatus:
    """The status, and all its conditions, as of a generation: whoever waits for a condition holds it to the newest."""
    conditions = [each.model_copy(update={"observed_generation": generation}) for each in status.conditions]
    return status.model_copy(update={"observed_generation": generation, "conditions": conditions})


class _Deferred(NamedTuple):
    """A status that is not written yet."""

    of: tuple[str, int | None]
    """Uid and generation of the resource."""
    due: float
    """When it is written at the latest, by the loop's clock."""


class StatusWriter:
    """Writes the statuses of all resources.

    Args:
        client: The API server.
        cache: Keeps the resources as they are once they are written.
        longest: Seconds that a status is deferred at most.
    """

    def __init__(self, client: ClusterClient, cache: Cache, longest: float) -> None:
        self._client, self._cache, self._longest = client, cache, longest
        self._deferred: dict[Key, _Deferred] = {}
        self._tokens, self._counted_at = float(_BURST), 0.0

    def deferred_seconds(self, key: Key, resource: Object) -> float:
        """For how long the status of a resource is still deferred; 0 where it is not, or its spec has changed since."""
        found = self._deferred.get(key)
        if found is None or found.of != _version(resource):
            return 0.0
        return max(0.0, found.due - asyncio.get_running_loop().time())

    def defer(self, key: Key, resource: Object, before: JobStatus, status: JobStatus) -> float:
        """Defer a status, once, where it may be and many are written; for how many seconds, 0 where it is not."""
        if key in self._deferred or not _only_begins(before, status) or self._takes_token():
            self.forget(key)
            return 0.0
        self._deferred[key] = _Deferred(_version(resource), asyncio.get_running_loop().time() + self._longest)
        return self._longest

    def forget(self, key: Key) -> None:
        """Forget that a status is deferred: it is written, or its resource is deleted."""
        self._deferred.pop(key, None)

    async def write(self, key: Key, resource: Object, before: JobStatus, status: JobStatus, now: datetime) -> bool:
        """Write how a status differs from the one that is stored.

        Returns:
            Whether the resource has this status now. Else it has changed, was replaced, or is deleted, and the event
            of that wakes the operator.

        Raises:
            TemporaryError: the API server does not answer.
        """
        try:
            newer = await write_status(self._client, resource, before, status, now)
        except ConflictError:
            return False
        except MissingError:
            if self._cache.resource(key) is resource:  # The watch missed its deletion.
                self._cache.delete_resource(key)
            return False
        self._cache.upsert_resource(key, newer)
        return True

    def _takes_token(self) -> bool:
        """Whether the rate allows another write: a token bucket."""
        now = asyncio.get_running_loop().time()
        earned = (now - self._counted_at) * _PER_SECOND
        self._tokens, self._counted_at = min(float(_BURST), self._tokens + earned), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _version(resource: Object) -> tuple[str, int | None]:
    return resource["metadata"]["uid"], resource["metadata"].get("generation")


def _only_begins(before: JobStatus, status: JobStatus) -> bool:
    """Whether all that is new is that an attempt has begun."""
    if not under_way(status) or status.phase in FINAL:
        return False
    return not before.attempts or before.attempts[-1].number != status.attempts[-1].number


async def write_status(
    client: ClusterClient, resource: Object, before: JobStatus, status: JobStatus, now: datetime
) -> Object:
    """Write how the status differs from the one that is stored; the resource as it is then.

    The name of an Event is made of its text, so that a reconcile that is repeated after a crash between the two writes
    reports nothing twice.

    Raises:
        ConflictError: the resource has changed, or is another one by now.
        MissingError: it is deleted.
    """
    patch = merge_patch(_data(before), _data(status))
    if not patch:
        return resource
    for text in changes(before, status):
        metadata = resource["metadata"]
        _logger.info("%s %s/%s %s: %s", resource["kind"], metadata["namespace"], metadata["name"], *text[1:])
        await write_event(client, resource, text, now)
    return await client.patch_status(resource, patch)


async def write_event(client: ClusterClient, resource: Object, text: EventText, now: datetime) -> None:
    """Write an Event about a resource, unless it was written before."""
    try:
        await client.create(event(resource, text, now))
    except ConflictError:
        return
    except ZerotuneError as error:  # Such as a quota of Events: the status reports the same, and must not wait.
        _logger.warning("the Event cannot be written: %s", error)


def merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What makes `old` into `new` (RFC 7396): null takes a field out, lists are replaced."""
    removed: dict[str, Any] = {name: None for name in old if name not in new}
    return removed | {name: _patched(old.get(name), value) for name, value in new.items() if old.get(name) != value}


def event(resource: Object, text: EventText, now: datetime) -> Object:
    """An Event about a resource: the same text once a day of its life, however often it is written."""
    metadata = resource["metadata"]
    day = (now - datetime.fromisoformat(metadata["creationTimestamp"])).days
    identity = f"{metadata['uid']} {day} {text.reason} {text.message}"
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
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


def _data(status: JobStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _patched(old: Any, value: Any) -> Any:
    return merge_patch(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
