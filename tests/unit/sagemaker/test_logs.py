"""How the log of a training job ends, where nothing else says why it failed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.sagemaker.account import Account
from tests.unit.sagemaker.jobs import sagemaker_job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.sagemaker.logs import last_lines
from zerotune_trainer.errors import InputMissingError

pytestmark = pytest.mark.slow

KINDS = ("FineTuneJob", "InferenceJob")
NO_REASON = "the container ended with exit code 3 and gave no reason"


def failing(account: Account, kind: str, command: str) -> JobStatus:
    """The status of a job once its containers have failed with a command of the shell."""
    account.stand_in.command = ("sh", "-c", command)
    return asyncio.run(account.drive(sagemaker_job(kind), lambda status: status.phase == "Restarting"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_that_gives_no_reason_is_explained_by_its_last_line(account: Account, kind: str) -> None:
    """D1."""
    status = failing(account, kind, "echo one; echo 'no module named deepspeed'; echo; exit 3")
    assert status.root_cause is not None
    assert status.root_cause.message == f"{NO_REASON}; its log ends with: no module named deepspeed"


def test_a_log_that_cannot_be_read_leaves_the_exit_code(account: Account) -> None:
    account.fail("DescribeLogStreams", "AccessDeniedException", times=9)
    status = failing(account, "FineTuneJob", "echo one; exit 3")
    assert status.root_cause is not None
    assert (status.root_cause.message, status.root_cause.exit_code) == (NO_REASON, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_of_several_hosts_have_their_names(account: Account, tmp_path: Path, kind: str) -> None:
    (wrote := tmp_path / "wrote").mkdir()
    # None ends before both have written.
    wait = f"touch {wrote}/$$; until [ $(ls {wrote} | wc -l) -ge 2 ]; do sleep 0.1; done"
    status, job = failing(account, kind, f"echo one; echo two; {wait}; exit 3"), sagemaker_job(kind)
    assert list(last_lines(job, status, 0, None)) == [
        f"[algo-{number}] {line}" for number in (1, 2) for line in ("one", "two")
    ]
    assert list(last_lines(job, status, 0, 1)) == ["one", "two"]
    with pytest.raises(InputMissingError, match="the job has no node 2"):
        list(last_lines(job, status, 0, 2))
