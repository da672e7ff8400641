"""The operator is killed between any two of its writes, and the job comes to the same end.

The pods belong to a stand-in for training, which ends when the test says so: what the operator gets to see does not
depend on how long it was dead.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.operator.lives import Life, expect_a_good_end, live
from zerotune_devtools.harness.api_server import ApiServer
from zerotune_devtools.harness.deadly_proxy import AtEveryWrite, AtWrite, Never

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
AT_A_TIME = 6
"""Lives. Each has an operator that starts twice."""

PASSING = {"Pending", "Planned"}
"""Events about a state that a job may have left again."""


def test_an_operator_killed_after_any_write_leads_to_the_same_end(kubeconfig: Path, tmp_path: Path) -> None:
    asyncio.run(_killed_once_each(kubeconfig, tmp_path))


def test_an_operator_killed_at_every_single_write_leads_to_the_same_end(kubeconfig: Path, tmp_path: Path) -> None:
    """With a model that only pods can read: the Job that reads it is one of the writes."""
    asyncio.run(_killed_at_every(kubeconfig, tmp_path))


async def _killed_once_each(kubeconfig: Path, folder: Path) -> None:
    async with ApiServer(kubeconfig) as cluster:
        undisturbed = await live(cluster, folder, Never())
        slots = asyncio.Semaphore(AT_A_TIME)

        async def killed(number: int) -> Life:
            async with slots:
                return await live(cluster, folder, AtWrite(number))

        lives = await asyncio.gather(*(killed(number + 1) for number in range(undisturbed.writes)))
    expect_a_good_end(undisturbed)
    for number, life in enumerate(lives, start=1):
        assert _result(life) == _result(undisturbed), f"killed after write {number}, {life.deaths}"
    points = [point for life in lives for point in life.deaths]
    # The last write may be one that another life has no need of: what two reconciles wrote is written by one.
    assert len(points) >= max(12, undisturbed.writes - 2), points


async def _killed_at_every(kubeconfig: Path, folder: Path) -> None:
    async with ApiServer(kubeconfig) as cluster:
        undisturbed, before, after = await asyncio.gather(
            live(cluster, folder, Never(), inspected=True),
            live(cluster, folder, AtEveryWrite(), "before", inspected=True),
            live(cluster, folder, AtEveryWrite(), "after", inspected=True),
        )
    expect_a_good_end(undisturbed)
    for life in (before, after):
        assert _result(life) == _result(undisturbed)
        assert set(life.events) <= set(undisturbed.events)
        assert len(life.deaths) >= 12, life.deaths


def _result(life: Life) -> Life:
    """What must not depend on how often the operator died: all but what has passed before it was there again."""
    reported = [event for event in life.events if event[1] not in PASSING]
    return replace(life, events=reported, writes=0, deaths=[])
