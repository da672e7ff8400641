"""Folders that an output lies in: another job's output is none, and who may not read there need not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sagemaker.in_process import LIFE, Aws, answer, serve_commands
from tests.unit.sagemaker.jobs import sagemaker_job
from tests.unit.sagemaker.test_found_again import KINDS, job
from tests.unit.sagemaker.test_homes import changed, run_for_a_while
from zerotune_operator.backends.local.home import Home
from zerotune_operator.cli.run import run_job
from zerotune_trainer.errors import ConfigurationError


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account whose training jobs run on."""
    made = Aws(tmp_path, (*LIFE[:2], *["Training"] * 99))
    serve_commands(made, monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_in_that_of_a_job_is_rejected_before_anything_is_created(aws: Aws, tmp_path: Path, kind: str) -> None:
    run_for_a_while(aws, job(), tmp_path / "one")
    below = changed(sagemaker_job(kind, name="below"), output={"uri": "s3://results/r/checkpoints/x"})
    below = changed(below, backend=job(kind).spec.backend.model_dump(mode="json", by_alias=True, exclude_unset=True))
    with pytest.raises(ConfigurationError, match="x lies in s3://results/r, which is written to by the training job"):
        run_job(below, Home(tmp_path / "one"), fresh=False)
    assert len(aws.service.created) == 1


def test_rights_to_the_output_alone_are_enough(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, asked = aws.get_object, list[str]()

    def get_object(**request: str) -> dict[str, Any]:
        if request["Bucket"] == "results" and not request["Key"].startswith("team/r/"):
            asked.append(request["Key"])
            raise answer("AccessDenied", "Access Denied", 403)
        return read(**request)

    monkeypatch.setattr(aws, "get_object", get_object)
    run_for_a_while(aws, changed(job(), output={"uri": "s3://results/team/r"}), tmp_path / "one")
    assert set(asked) == {"team/.zerotune-job.json", "team/.sagemaker/claim.json"}
