"""`zerotune run --fresh` of a job on SageMaker: what is there is moved away once the new job may run, not before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sagemaker.account import result_of
from tests.unit.sagemaker.in_process import LIFE, Aws, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker.layout import uid_of
from zerotune_operator.cli import status, stop
from zerotune_operator.cli.run import run_job
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.manifest import OWNER_NAME

KINDS = ("FineTuneJob", "InferenceJob")


def job_of(kind: str) -> Job:
    found = sagemaker_job(kind, roleArn=ROLE)
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"uid": uid_of(found)})})


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    made = Aws(tmp_path, LIFE)
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    serve_commands(made, monkeypatch)
    yield made
    made.close()


def finish(aws: Aws, job: Job) -> None:
    """Run a job to its end; its output is there."""
    aws.objects |= result_of(job)
    assert run_job(job, Home.of_environment(), fresh=False) == 0
    owner = JobIdentity(kind=job.kind, name=job.metadata.name, uid=job.metadata.uid, attempt=0)
    aws.objects[f"results/r/{OWNER_NAME}"] = owner.model_dump_json(by_alias=True).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_rejected_fresh_run_leaves_the_old_job_known(aws: Aws, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    job, home = job_of(kind), Home.of_environment()
    finish(aws, job)
    with pytest.raises(ConfigurationError) as caught:
        run_job(job, home, fresh=True)
    uid = job.metadata.uid
    assert caught.value.message == f"s3://results/r holds the output of another {kind} of this name, tune (uid {uid})"
    assert caught.value.hint == "name another output.uri, or empty that folder if nobody needs what it holds"

    capsys.readouterr()
    status.command("tune")
    stop.command("tune")
    said = capsys.readouterr().out
    assert "Phase:          Succeeded" in said
    assert "tune: has ended already, its phase is Succeeded" in said
    assert not (home.path / "replaced").exists()


def test_a_fresh_run_puts_the_old_job_aside_once_its_output_is_free(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    job, home = job_of("FineTuneJob"), Home.of_environment()
    finish(aws, job)
    for name in [name for name in aws.objects if name.startswith("results/r/")]:
        del aws.objects[name]
    run_job(job, home, fresh=True)
    (aside,) = (home.path / "replaced").iterdir()
    assert f"tune: what was there is now in {aside}" in capsys.readouterr().out
    assert (aside / "job.yaml").is_file() and not (aside / "lock").exists()
    (folder,) = home.jobs()
    assert folder.read_job().metadata.uid != job.metadata.uid
    assert len({name.rpartition("-")[0] for name in aws.service.created}) == 2


def test_a_changed_spec_is_told_that_the_output_stays_too(aws: Aws) -> None:
    job = job_of("FineTuneJob")
    finish(aws, job)
    (folder,) = Home.of_environment().jobs()
    known = folder.read_status()
    attempts = [known.attempts[0].model_copy(update={"last_step": 1})]
    folder.write_status(known.model_copy(update={"attempts": attempts}))
    topology = job.spec.topology.model_copy(update={"processes_per_node": 2})
    changed = job.model_copy(update={"spec": job.spec.model_copy(update={"topology": topology})})
    with pytest.raises(ConfigurationError, match="has run with another spec before") as caught:
        run_job(changed, Home.of_environment(), fresh=False)
    assert "either way with another output.uri, as the old one's output stays in s3://results/r" in caught.value.hint
