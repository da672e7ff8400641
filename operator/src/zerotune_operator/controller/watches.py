"""Watching the Jobs and pods of our resources: list them, then follow what changes; list again where that breaks off.

kopf 1.45 does the same for any kind of object, but where a watch breaks off and it lists again, it never reports what
was deleted meanwhile: a Job that is deleted would count as running for ever. It also does some work at every event for
all that it can do with an object: 5.9 times the CPU of this module (`make bench-watch`: 300 Jobs, 8 changes of each,
both on the same events). Jobs and pods make nine of ten events, and nothing but their newest version is wanted of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_trainer.errors import TemporaryError

_FOLLOW_SECONDS = 240
"""After these the API server ends a watch, which is continued."""
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 10.0
_IDENTITY = ("name", "namespace", "labels", "uid")

_logger = logging.getLogger(__name__)


class EventHandler(NamedTuple):
    """What is called with the objects of a kind."""

    upserted: Callable[[Object], None]
    """Gets an object that is new or has changed, maybe in a version that it has had."""
    deleted: Callable[[Object], None]
    """Gets an object that is deleted: its last version, or where that was missed only its name, namespace, labels, uid.
    """


@dataclass
class Watch:
    """Reports every object in a collection.

    Args:
        client: The API server.
        path: Of the collection, such as `/api/v1/pods`.
        selector: Labels that the objects have.
        handler: Gets what changes.
    """

    client: ClusterClient
    path: str
    selector: str
    handler: EventHandler
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once all that existed has been reported."""
    _known: dict[str, Object] = field(default_factory=dict)
    """What has been reported and is not deleted, by uid: no more than its deletion needs."""

    async def run(self) -> NoReturn:
        """Watch until cancelled, whatever becomes of the API server meanwhile.

        Raises:
            ZerotuneError: the API server rejects; no patience helps.
        """
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            try:
                version = await self._list()
                self.listed.set()
                pause = _SHORTEST_PAUSE_SECONDS
                await self._follow(version)
            except TemporaryError as error:
                _logger.warning("%s; all of it is listed again in %gs", error.message, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _list(self) -> str:
        """Report all that exists, and what is deleted; the version of the collection."""
        before, self._known = self._known, {}
        try:
            async for page in self.client.pages(self.path, {"labelSelector": self.selector}):
                for found in page["items"]:
                    self._upserted(found)
        finally:
            # Where the list broke off, what is missing may exist.
            missing = {uid: known for uid, known in before.items() if uid not in self._known}
            self._known |= missing
        for known in missing.values():
            self._deleted(known)
        return str(page["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> NoReturn:
        """Report what changes from a version of the collection on.

        Raises:
            TemporaryError: the watch breaks off.
        """
        query = {"labelSelector": self.selector, "timeoutSeconds": str(_FOLLOW_SECONDS), "allowWatchBookmarks": "true"}
        while True:
            async for event in self.client.watch(self.path, query | {"resourceVersion": version}):
                kind, found = event["type"], event["object"]
                if kind == "ERROR":
                    raise TemporaryError(f"{self.path} cannot be watched on: {found.get('message')}")
                version = found["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    self._deleted(found)
                elif kind != "BOOKMARK":
                    self._upserted(found)

    def _upserted(self, found: Object) -> None:
        metadata = found["metadata"]
        self._known[metadata["uid"]] = {"metadata": {name: metadata[name] for name in _IDENTITY}}
        self.handler.upserted(found)

    def _deleted(self, found: Object) -> None:
        self._known.pop(found["metadata"]["uid"], None)
        self.handler.deleted(found)
