"""The jobs that a job starts from."""

from __future__ import annotations

from typing import Any

import pytest

from zerotune_operator.api.load import parse_job
from zerotune_operator.api.origins import origins, starting_from
from zerotune_operator.backends.check import check
from zerotune_operator.backends.registry import Target
from zerotune_trainer.errors import ConfigurationError


def student(**spec: Any) -> Any:
    data = {"train": {"fromInferenceJob": "teacher"}, "validation": {"fromInferenceJob": "examiner"}}
    data |= {"replay": {"fromInferenceJob": "writer", "share": 0.1}}
    spec = {"evaluation": {"control": {"fromInferenceJob": "critic"}}} | spec
    parts = {"method": "sft", "model": {"fromFineTuneJob": "base"}, "data": data, "output": {"uri": "s3://mmm/o"}}
    header = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "student"}}
    return parse_job(header | {"spec": parts | spec})


def test_every_job_that_a_spec_names_is_listed_with_its_field() -> None:
    assert [str(origin) for origin in origins(student())] == [
        "model.fromFineTuneJob: 'base'",
        "data.train.fromInferenceJob: 'teacher'",
        "data.validation.fromInferenceJob: 'examiner'",
        "data.replay.fromInferenceJob: 'writer'",
        "evaluation.control.fromInferenceJob: 'critic'",
    ]


def test_outputs_take_the_place_of_the_jobs_and_the_rest_stays() -> None:
    job = student()
    outputs = {"data.train": "s3://aaa/teacher", "model": "s3://mmm/base", "evaluation.control": "s3://aaa/critic"}
    resolved = starting_from(job, outputs)
    assert [origin.part for origin in origins(resolved)] == ["data.validation", "data.replay"]
    assert resolved.spec.evaluation.control.uris == ["s3://aaa/critic"]
    assert (resolved.spec.data.train.uris, resolved.spec.model.uri) == (["s3://aaa/teacher"], "s3://mmm/base")
    assert origins(job) != origins(resolved), "the job itself is as it was"


@pytest.mark.parametrize("target", [Target.KUBERNETES, Target.LOCAL])
def test_a_job_that_would_wait_for_itself_is_rejected(target: Target) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.fromFineTuneJob: 'student' is this job itself"):
        check(student(model={"fromFineTuneJob": "student"}), target)
