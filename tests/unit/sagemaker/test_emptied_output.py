"""A job on SageMaker whose output was complete once, and is no more: nobody says that it has finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sagemaker.account import result_of
from tests.unit.sagemaker.in_process import FAULTS, LIFE, Aws, Killed, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker.layout import job_name, uid_of
from zerotune_operator.cli.found_again import find_again
from zerotune_operator.cli.run import run_job
from zerotune_trainer.errors import TemporaryError
from zerotune_trainer.manifest import MANIFEST_NAME

MANIFEST, WEIGHTS = f"results/r/{MANIFEST_NAME}", "results/r/model.safetensors"
CALLS_UNTIL_IT_IS_CREATED = 30


@pytest.fixture(params=["FineTuneJob", "InferenceJob"])
def job(request: pytest.FixtureRequest) -> Job:
    found = sagemaker_job(request.param, roleArn=ROLE)
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"uid": uid_of(found)})})


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job) -> Iterator[Aws]:
    """An account where the job has finished; it was run from the home `one`."""
    made = Aws(tmp_path, LIFE)
    serve_commands(made, monkeypatch)
    made.objects |= result_of(job)
    assert run_job(job, Home(tmp_path / "one"), fresh=False) == 0
    yield made
    made.close()


@pytest.mark.parametrize("other", ["nothing", "what another configuration made", "no weights", "half of the weights"])
def test_a_finished_job_whose_output_is_complete_no_more_is_made_again(
    aws: Aws, job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    damage(aws, other)
    capsys.readouterr()
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_IS_CREATED] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(job, Home(tmp_path / "one"), fresh=False)
    said = capsys.readouterr().out
    assert f"tune: finished already, but s3://results/r is no longer complete: its {MANIFEST_NAME}, or a file" in said
    assert "the next attempt makes it again" in said
    assert aws.service.created == [job_name(job, 0), job_name(job, 1)]


def damage(aws: Aws, left: str) -> None:
    """Have somebody leave of the output no more than that."""
    match left:
        case "nothing":
            del aws.objects[MANIFEST]
        case "what another configuration made":
            aws.objects[MANIFEST] = aws.objects[MANIFEST].replace(b'"configDigest": "', b'"configDigest": "0')
        case "no weights":
            del aws.objects[WEIGHTS]
        case "half of the weights":
            aws.objects[WEIGHTS] = b""


@pytest.mark.parametrize("left", ["nothing", "no weights", "half of the weights"])
def test_an_emptied_output_is_no_success_for_another_machine(aws: Aws, job: Job, tmp_path: Path, left: str) -> None:
    """The reports of the hosts, which are hidden, are there still, and say that it is complete."""
    damage(aws, left)
    found = find_again(job, Home(tmp_path / "two")).read_status()
    assert (found.attempts[0].outcome, found.attempts[0].failure_class) == ("Failed", "Internal")
    assert found.output is None
    assert len(aws.service.created) == 1


def test_where_s3_does_not_answer_nobody_knows_whether_a_job_has_finished(aws: Aws, job: Job, tmp_path: Path) -> None:
    aws.faults[len(aws.made)] = FAULTS["timed out before"]
    with pytest.raises(TemporaryError, match="AWS did not answer"):
        run_job(job, Home(tmp_path / "one"), fresh=False)
    assert len(aws.service.created) == 1
