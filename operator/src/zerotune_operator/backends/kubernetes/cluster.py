"""What all jobs of a cluster share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.kubernetes.cache import Cache
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.launchers import Launchers


async def _trust_the_clock() -> None:
    """Of a clock that cannot be wrong."""


@dataclass(frozen=True)
class Cluster:
    """What all jobs of a cluster share."""

    cache: Cache
    """What the watches have reported."""
    client: ClusterClient
    warnings: WarningEvents
    launchers: Launchers
    """What the pods report."""
    installation: Installation
    clock: Callable[[], datetime]
    confirm_time: Callable[[], Awaitable[None]] = _trust_the_clock
    """Observes the time once more, before a step that cannot be taken back is made because of it."""
    hub: Hub = field(default_factory=Hub)
