"""One replica works, the others stand by: a Lease says which (as client-go's leader election does it).

The official client has an election of its own, whose Lease cannot be created with version 37: it asks for
`pretty=True` where its API takes text.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from zerotune_operator.backends.kubernetes.api_errors import MissingError
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_trainer.errors import TemporaryError

LEASE_SECONDS = 20
"""How long a leader that does not renew is waited for."""
RENEW_SECONDS = 15
"""How long a leader tries to renew before it gives up: less than the others wait."""
RETRY_SECONDS = 5
"""How often a leader renews, and the others read the Lease."""
AGAIN_SECONDS = 1
"""When a leader tries again where it could not renew: an outage that is over in time shall not cost it the lease."""

_logger = logging.getLogger(__name__)


class Lease:
    """A Lease that replicas take in turn.

    Args:
        client: The API server.
        name: Of the Lease.
        namespace: Of the Lease.
        identity: Of this replica.
    """

    def __init__(self, client: ClusterClient, name: str, namespace: str, identity: str) -> None:
        self._client, self._identity = client, identity
        self._metadata = {"name": name, "namespace": namespace}
        self._seen: tuple[Object, float] | None = None
        """The spec last seen, and when it was first seen so, by this machine's own clock."""
        self._rival = ""
        """The other replica that held it when it was last seen."""

    async def lead(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Stand by until the Lease is ours, then work; returns whether the work has ended, and not the Lease was lost.

        However it ends, the Lease is given back, so that another replica need not wait for it to run out.
        """
        while not await self._take():
            await asyncio.sleep(RETRY_SECONDS)
        _logger.info("%s leads", self._identity)
        renewing, working = asyncio.ensure_future(self._renew()), asyncio.ensure_future(work())
        try:
            await asyncio.wait((renewing, working), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            return working.done()
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            await self._give_back()

    async def _renew(self) -> None:
        """Returns when the Lease could not be renewed in time, or is another's."""
        loop = asyncio.get_running_loop()
        renewed, pause = loop.time(), RETRY_SECONDS
        try:
            while True:
                # A request that hangs is not waited for: by its end another replica may lead.
                async with asyncio.timeout_at(renewed + RENEW_SECONDS):
                    await asyncio.sleep(pause)
                    began, pause = loop.time(), AGAIN_SECONDS
                    if await self._take():
                        renewed, pause = began, RETRY_SECONDS
                    elif self._rival:
                        raise _LostError(self._rival)
        except TimeoutError:
            _logger.error("%s could not renew its lease for %ds, and leads no more", self._identity, RENEW_SECONDS)
        except _LostError as error:
            _logger.error("the lease is held by %s: %s leads no more", error, self._identity)

    async def _take(self) -> bool:
        """Whether the Lease is ours, taken or renewed just now."""
        try:
            return await self._tried()
        except TemporaryError as error:  # A conflict too: another replica was faster.
            _logger.warning("the lease cannot be had: %s", error.message)
            return False

    async def _tried(self) -> bool:
        try:
            known = await self._client.read(self._lease({}))
        except MissingError:
            await self._client.create(self._lease(self._spec(None)))
            return True
        if self._is_held_by_another(known["spec"]):
            return False
        await self._client.replace(known | {"spec": self._spec(known["spec"])})
        return True

    async def _give_back(self) -> None:
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                known = await self._client.read(self._lease({}))
                if known["spec"].get("holderIdentity") == self._identity:
                    await self._client.replace(known | {"spec": known["spec"] | {"holderIdentity": ""}})
        except (MissingError, TemporaryError, TimeoutError) as error:
            _logger.warning("the lease was not given back, it runs out: %r", error)

    def _is_held_by_another(self, spec: Object) -> bool:
        if self._seen is None or self._seen[0] != spec:
            self._seen = (spec, time.monotonic())
        holder = spec.get("holderIdentity") or ""
        age = time.monotonic() - self._seen[1]
        is_held = holder not in ("", self._identity) and age < float(spec.get("leaseDurationSeconds", LEASE_SECONDS))
        self._rival = holder if is_held else ""
        return is_held

    def _spec(self, before: Object | None) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = before is not None and before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": before["acquireTime"] if before and ours else now,
            "renewTime": now,
            "leaseTransitions": (before or {}).get("leaseTransitions", 0) + (not ours and before is not None),
        }

    def _lease(self, spec: Object) -> Object:
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": dict(self._metadata), "spec": spec}


class _LostError(Exception):
    """Another replica holds the Lease."""
