"""Watching the Jobs and pods of our resources: list them, then follow what changes; list again where that breaks off.

kopf does the same for any kind of object, and for everything that it can do with one it does some work at every event.
Pods and Jobs make nine of ten events, and nothing but their newest version is wanted of them.
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
"""After these the API server ends a watch, and it is gone on with."""
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 10.0
_IDENTITY = ("name", "namespace", "labels", "uid")

_logger = logging.getLogger(__name__)


class Listener(NamedTuple):
    """Who is told of objects of a kind."""

    keep: Callable[[Object], None]
    """Gets an object that is new or has changed, maybe in a version that it has had."""
    drop: Callable[[Object], None]
    """Gets an object that is gone: as it was at last, or where that was missed only its name, namespace, labels, uid.
    """


@dataclass
class Watch:
    """Tells of every object in a collection.

    Args:
        client: The line to the API server.
        path: Of the collection, such as `/api/v1/pods`.
        selector: Labels that the objects have.
        listener: Who is told.
    """

    client: ClusterClient
    path: str
    selector: str
    listener: Listener
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once all that was there has been told of."""
    _known: dict[str, Object] = field(default_factory=dict)
    """What has been told of and is not gone, by uid: no more than a drop needs."""

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
        """Tell of all that is there, and of what is gone; the version of the collection."""
        before, self._known = self._known, {}
        try:
            async for page in self.client.pages(self.path, {"labelSelector": self.selector}):
                for found in page["items"]:
                    self._keep(found)
        finally:
            # Where the list broke off, what is missing may be there.
            missing = {uid: gone for uid, gone in before.items() if uid not in self._known}
            self._known |= missing
        for gone in missing.values():
            self._drop(gone)
        return str(page["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> NoReturn:
        """Tell of what changes from a version of the collection on.

        Raises:
            TemporaryError: the thread is lost.
        """
        query = {"labelSelector": self.selector, "timeoutSeconds": str(_FOLLOW_SECONDS), "allowWatchBookmarks": "true"}
        while True:
            async for event in self.client.watch(self.path, query | {"resourceVersion": version}):
                kind, told = event["type"], event["object"]
                if kind == "ERROR":
                    raise TemporaryError(f"{self.path} cannot be watched on: {told.get('message')}")
                version = told["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    self._drop(told)
                elif kind != "BOOKMARK":
                    self._keep(told)

    def _keep(self, found: Object) -> None:
        metadata = found["metadata"]
        self._known[metadata["uid"]] = {"metadata": {name: metadata[name] for name in _IDENTITY}}
        self.listener.keep(found)

    def _drop(self, gone: Object) -> None:
        self._known.pop(gone["metadata"]["uid"], None)
        self.listener.drop(gone)
