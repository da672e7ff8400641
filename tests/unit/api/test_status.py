"""Progress as kubectl prints it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from zerotune_operator.api.status import Condition, Display, JobStatus, RootCause, display, duration
from zerotune_trainer.progress import Progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m0s"), (725, "12m5s"), (3603, "1h0m3s"), (90061, "25h1m1s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_progress_as_printed() -> None:
    progress = Progress(step=120, total=500, loss=2.34567, tokens_per_second=15234.6, eta_seconds=725)
    assert display(progress) == Display(step="120/500", loss="2.346", tokens_per_second="15235", eta="12m5s")
    assert display(Progress(step=0, total=500)) == Display(step="0/500")
    assert display(Progress(step=500, total=500, eta_seconds=0.0)) == Display(step="500/500")


def test_a_status_survives_json() -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    status = JobStatus(
        phase="Failed",
        conditions=[Condition(type="Failed", status="True", reason="OutOfMemory", last_transition_time=now)],
        root_cause=RootCause(
            failure_class="OutOfMemory", message="of memory", rank=3, host="n-1", pod="p", node="gpu-7"
        ),
    )
    text = status.model_dump_json(by_alias=True, exclude_none=True)
    assert '"rootCause":{"class":"OutOfMemory"' in text
    assert JobStatus.model_validate_json(text) == status
