"""The README's table of exit codes has those that the code has, and says of each whether it is retried."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from tests.readme.commands import README
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.cli.conclusion import conclude
from zerotune_operator.cli.run import LEFT_EXIT_CODE
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_operator.lifecycle.replicas import NEVER_RETRIED
from zerotune_operator.lifecycle.transitions import advance
from zerotune_trainer.errors import ZerotuneError

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    code: int
    text: str
    retried: str


TABLE = {
    int(code): Row(int(code), text, retried)
    for code, text, retried in re.findall(r"^\| (\d+) \| (.+?) \|(?: (yes|no))? \|$", README, re.MULTILINE)
}
ERRORS = ZerotuneError.__subclasses__()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.failure_class)
def test_every_class_of_failures_is_in_the_table(error: type[ZerotuneError]) -> None:
    row = TABLE[error.exit_code]
    assert row.retried == ("no" if error.exit_code in NEVER_RETRIED else "yes")
    assert row.text.startswith((f"{error.failure_class}:", error.failure_class)), row


def test_the_table_has_no_other_codes() -> None:
    assert set(TABLE) == {1, click.UsageError.exit_code, LEFT_EXIT_CODE, *(error.exit_code for error in ERRORS)}


def test_a_job_that_ran_longer_than_its_deadline_ends_with_the_code_of_the_table(tmp_path: Path) -> None:
    running = Observation(0, (NodeObservation("algo-1", "running"),))
    status = advance(JobStatus(), running, RunPolicy(active_deadline_seconds=1), BEGIN)
    status = advance(status, running, RunPolicy(active_deadline_seconds=1), BEGIN + timedelta(seconds=2))
    code = conclude(status, JobFolder(tmp_path / "tune"), "its log")
    assert TABLE[code].text.startswith("DeadlineExceeded")
