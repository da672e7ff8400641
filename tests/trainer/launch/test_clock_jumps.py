"""A wall clock that jumps by an hour, in launcher and ranks alike: nothing hangs, and nothing is found to hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_SKEWED = """
import datetime, pathlib, time

_real, _offset = time.time, pathlib.Path(__file__).with_name("offset")

def skewed():
    return _real() + float(_offset.read_text())

class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(skewed(), tz)

time.time, datetime.datetime = skewed, Skewed
"""


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The seconds by which the clock of processes that start from now on is wrong, as a file to change."""
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SKEWED)
    offset = folder / "offset"
    offset.write_text("0")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return offset


def set_clock(clock: Path, seconds: int) -> None:
    newer = clock.with_name("newer")
    newer.write_text(str(seconds))
    newer.replace(clock)


def test_a_clock_that_jumps_neither_fails_a_job_nor_hangs_it(make_job: Callable[..., Any], clock: Path) -> None:
    job = make_job({"127.0.0.1": 2}, hangTimeoutSeconds=20)
    [node] = job.start_toys("steps_until_stopped")
    node.until(lambda found: all(rank.step > 2 for rank in found.ranks))
    for seconds in (3600, -3600):
        set_clock(clock, seconds)
        step = node.progress().ranks[0].step
        time.sleep(2)
        found = node.progress()
        assert found.ranks[0].step > step
        assert found.failure is None
        assert all(0 <= rank.heartbeat_age_seconds < 10 and 0 <= rank.step_age_seconds < 10 for rank in found.ranks)
    node.process.terminate()
    assert node.end() == 143
    assert "has saved step" in node.log


def test_a_hang_is_found_after_its_time_whatever_the_clock_says(make_job: Callable[..., Any], clock: Path) -> None:
    set_clock(clock, 3600)
    job = make_job({"127.0.0.1": 1}, hangTimeoutSeconds=12)
    [node] = job.start_toys("waits")
    node.until(lambda found: found.ranks[0].step == 7)
    began = time.monotonic()
    set_clock(clock, -3600)
    assert node.end(40) == 72
    assert time.monotonic() - began >= 9
