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
    before = installation.metric("zerotune_api_requests_total"), installation.metric("process_cpu_seconds_total")
    time.sleep(_WATCHED_SECONDS)
    after = installation.metric("zerotune_api_requests_total"), installation.metric("process_cpu_seconds_total")
    requests, seconds = ((new - old) * 60 / _WATCHED_SECONDS for new, old in zip(after, before, strict=True))
    figures["idle operator, a minute"] = f"{requests:.0f} requests, {seconds:.2f} CPU seconds"
    assert requests <= _MOST_REQUESTS_A_MINUTE
