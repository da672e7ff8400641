"""What all jobs of a cluster share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from zerotune_operator.backends.kubernetes.cache import Store
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.kubernetes.model_source import Hub


@dataclass(frozen=True)
class Cluster:
    """What all jobs of a cluster share."""

    store: Store
    """What the watches know."""
    client: ClusterClient
    warnings: WarningEvents
    launchers: Launchers
    """The line to the pods."""
    installation: Installation
    clock: Callable[[], datetime]
    hub: Hub = field(default_factory=Hub)
