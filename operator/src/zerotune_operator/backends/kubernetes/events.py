"""Warning Events that report why pods are not made or do not start: one list of a namespace for all jobs waiting."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.waiting import TELLING_REASONS

_FRESH_SECONDS = 10.0
"""A list that is no older is not read again."""


class _Read(NamedTuple):
    """A list, or the request for it."""

    began: float
    """By the loop's clock."""
    by_uid: asyncio.Future[Mapping[str, list[Object]]]
    """Events by the object that they are about."""


class WarningEvents:
    """The Warnings of all namespaces.

    Args:
        client: The line to the API server.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._reads: dict[str, _Read] = {}

    async def about(self, namespace: str, uids: Iterable[str]) -> tuple[Object, ...]:
        """The core/v1 Events with a telling reason about the objects with these uids, ten seconds old at most.

        Raises:
            TemporaryError: the API server does not answer.
        """
        now = asyncio.get_running_loop().time()
        # Of a namespace where nobody waits any more nothing is kept.
        self._reads = {name: read for name, read in self._reads.items() if now - read.began <= _FRESH_SECONDS}
        if namespace not in self._reads:
            self._reads[namespace] = _Read(now, asyncio.ensure_future(self._list(namespace)))
        # One that is cancelled leaves the answer to the others.
        by_uid = await asyncio.shield(self._reads[namespace].by_uid)
        return tuple(event for uid in uids for event in by_uid.get(uid, ()))

    async def _list(self, namespace: str) -> Mapping[str, list[Object]]:
        by_uid: defaultdict[str, list[Object]] = defaultdict(list)
        query = {"fieldSelector": "type=Warning"}
        async for page in self._client.pages(f"/api/v1/namespaces/{namespace}/events", query):
            for event in page["items"]:
                if event.get("reason") in TELLING_REASONS:
                    by_uid[event["involvedObject"].get("uid", "")].append(event)
        return by_uid
