"""Continued pre-training, from a folder to a finished output."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_cpt_lowers_the_evaluation_loss(make_job: Any) -> None:
    """R11."""
    job = make_job()
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    results = job.results()
    assert results["evalLoss"] < results["firstEvalLoss"]
