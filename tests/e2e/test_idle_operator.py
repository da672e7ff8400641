"""What the operator costs while nothing happens."""

from __future__ import annotations

import time

import pytest

from tests.e2e.chain import Chain
from zerotune_devtools.harness.installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
_WATCHED_SECONDS = 20
_MOST_REQUESTS_A_MINUTE = 30
"""Of which 24 keep the Lease."""


def test_finished_jobs_cost_no_requests(installation: Installation, chain: Chain, figures: dict[str, str]) -> None:
    """All watches end together every few minutes, and begin anew: at most one of two windows has that in it."""
    requests, seconds = min(_watch(installation) for _ in range(2))
    figures["idle operator, a minute"] = f"{requests:.0f} requests, {seconds:.2f} CPU seconds"
    assert requests <= _MOST_REQUESTS_A_MINUTE


def _watch(installation: Installation) -> tuple[float, float]:
    """Requests and CPU seconds a minute, now."""
    names = ("zerotune_api_requests_total", "process_cpu_seconds_total")
    before = [installation.metric(name) for name in names]
    time.sleep(_WATCHED_SECONDS)
    requests, seconds = (installation.metric(name) - old for name, old in zip(names, before, strict=True))
    return requests * 60 / _WATCHED_SECONDS, seconds * 60 / _WATCHED_SECONDS
