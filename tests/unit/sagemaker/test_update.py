"""What may change of a job that runs reaches SageMaker; nothing else may change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.sagemaker.account import UNTIL_STOPPED, Account, result_of
from tests.unit.sagemaker.in_process import Aws, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_devtools.sagemaker.service_model import problems_of
from zerotune_operator.api.backend import SageMakerSpec
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import InvalidManifestError, check_update
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker.layout import job_name, sagemaker_of, uid_of
from zerotune_operator.backends.sagemaker.update import changes_of
from zerotune_operator.cli.run import run_job
from zerotune_operator.cli.run_sagemaker import take_over
from zerotune_trainer.errors import ConfigurationError

KINDS = ("FineTuneJob", "InferenceJob")
RETENTION = st.one_of(st.none(), st.integers(0, 21600))


def description(keep: int | None, debug: bool, secondary: str) -> dict[str, Any]:
    resources = {} if keep is None else {"KeepAlivePeriodInSeconds": keep}
    return {
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": secondary,
        "ResourceConfig": resources,
        "RemoteDebugConfig": {"EnableRemoteDebug": debug},
    }


@settings(max_examples=50)
@given(RETENTION, RETENTION, st.booleans(), st.booleans(), st.sampled_from(["Starting", "Downloading", "Training"]))
def test_a_change_is_made_once_and_leaves_nothing_to_change(
    wanted: int | None, found: int | None, debug: bool, had: bool, secondary: str
) -> None:
    sagemaker = SageMakerSpec(instance_type="ml.m5.xlarge", keep_alive_seconds=wanted, remote_debug=debug)
    seen = description(found, had, secondary)
    changes = changes_of(sagemaker, seen)

    assert problems_of("UpdateTrainingJob", {"TrainingJobName": "a", **changes}) == []
    assert ("ResourceConfig" in changes) == ((wanted or 0) != (found or 0))
    assert ("RemoteDebugConfig" in changes) == (debug != had and secondary != "Starting")
    assert changes_of(sagemaker, seen | changes) == {}
    assert changes_of(sagemaker, seen | {"TrainingJobStatus": "Stopping"}) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_retention_and_debugging_may_change_and_nothing_else_of_the_backend(kind: str) -> None:
    old = sagemaker_job(kind, keepAliveSeconds=60)
    check_update(old, sagemaker_job(kind, keepAliveSeconds=0, remoteDebug=True))
    check_update(old, sagemaker_job(kind))
    for change in ({"instanceType": "ml.m5.large"}, {"jobNamePrefix": "other"}, {"tags": {"a": "b"}}):
        with pytest.raises(InvalidManifestError, match=r"but for sagemaker\.keepAliveSeconds"):
            check_update(old, sagemaker_job(kind, keepAliveSeconds=60, **change))


def test_another_run_of_a_job_that_runs_takes_over_what_may_change(tmp_path: Path) -> None:
    folder = Home(tmp_path).create("FineTuneJob", "tune")
    folder.write_job(sagemaker_job(keepAliveSeconds=60))
    take_over(sagemaker_job(keepAliveSeconds=0), folder)
    assert sagemaker_of(folder.read_job()).keep_alive_seconds == 0
    with pytest.raises(ConfigurationError, match="more of its backend has changed"):
        take_over(sagemaker_job(keepAliveSeconds=0, jobNamePrefix="other"), folder)
    assert sagemaker_of(folder.read_job()).job_name_prefix is None


def test_another_run_of_a_job_that_runs_may_not_change_its_result(tmp_path: Path) -> None:
    """Its instances go on with what it was, and their result would be reported as that of the changed spec."""
    folder = Home(tmp_path).create("FineTuneJob", "tune")
    folder.write_job(sagemaker_job())
    with pytest.raises(ConfigurationError, match=r"its spec has changed since: topology\.nodes was 2, is 3") as caught:
        take_over(sagemaker_job(nodes=3), folder)
    assert "`zerotune stop tune`" in caught.value.hint
    assert folder.read_job() == sagemaker_job()


def test_what_changes_after_the_end_has_no_effect_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws, job = Aws(tmp_path), sagemaker_job(keepAliveSeconds=60, roleArn=ROLE)
    serve_commands(aws, monkeypatch)
    job = job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": uid_of(job)})})
    aws.objects |= result_of(job)
    assert run_job(job, Home(tmp_path), fresh=False) == 0
    capsys.readouterr()
    run_job(job, Home(tmp_path), fresh=False)
    run_job(sagemaker_job(keepAliveSeconds=0, roleArn=ROLE), Home(tmp_path), fresh=False)
    aws.close()
    unchanged, changed = capsys.readouterr().out.splitlines()
    assert unchanged == "tune: finished already, there is nothing to do; its output is s3://results/r"
    assert changed == f"{unchanged}; what has changed in its file since has no effect"


@contextmanager
def running(account: Account, job: Job) -> Iterator[JobStatus]:
    """A job that runs until it is stopped."""
    account.stand_in.command = UNTIL_STOPPED
    yield asyncio.run(account.drive(job, lambda status: status.phase == "Running"))
    asyncio.run(account.backend(job).finalize(JobStatus()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_of_a_job_that_runs_reaches_sagemaker(account: Account, kind: str) -> None:
    job, edited = sagemaker_job(kind, keepAliveSeconds=60), sagemaker_job(kind, keepAliveSeconds=0, remoteDebug=True)
    made = job_name(job, 0)

    def seen() -> tuple[Any, Any]:
        request = account.stand_in.jobs[made].request
        return request["ResourceConfig"].get("KeepAlivePeriodInSeconds"), request.get("RemoteDebugConfig")

    with running(account, job) as status:
        assert seen() == (60, None)
        account.fail("UpdateTrainingJob", "ThrottlingException")
        account.fail("UpdateTrainingJob", after_effect=True)
        asyncio.run(account.drive(edited, lambda _: seen() == (0, {"EnableRemoteDebug": True}), status))
        calls = account.stand_in.calls["UpdateTrainingJob"]
        asyncio.run(_steps(account, edited, status, 5))

    assert calls in (2, 3) and account.stand_in.calls["UpdateTrainingJob"] <= 3
    assert account.stand_in.created == [made]


@pytest.mark.slow
def test_a_change_that_aws_rejects_is_logged_once_and_the_job_goes_on(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    with running(account, sagemaker_job()) as status, caplog.at_level(logging.WARNING):
        account.fail("UpdateTrainingJob", "AccessDeniedException", times=9)
        after = asyncio.run(_steps(account, sagemaker_job(keepAliveSeconds=60), status, 5))

    assert (after.phase, account.stand_in.calls["UpdateTrainingJob"]) == ("Running", 1)
    (record,) = [record for record in caplog.records if "was not changed" in record.message]
    assert "give the identity that asks the rights of docs/sagemaker-policy.json" in record.message


async def _steps(account: Account, job: Job, status: JobStatus, count: int) -> JobStatus:
    """The status after some steps of one process."""
    left = iter(range(count))
    return await account.drive(job, lambda _: next(left, None) is None, status)
