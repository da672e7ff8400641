"""What is accepted and what is rejected, with which message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.api.admission_cases import Case
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import InvalidManifestError, check_update, load_jobs, parse_job
from zerotune_operator.api.manifest_yaml import path_text


def _load(case: Case, folder: Path) -> Job:
    """What `zerotune validate` does with a file."""
    path = folder / "job.json"
    path.write_text(json.dumps(case.manifest))
    (job,) = load_jobs(path)
    return job


def test_is_accepted(valid_case: Case, tmp_path: Path) -> None:
    job = _load(valid_case, tmp_path)
    assert (job.kind, job.metadata.name) == (valid_case.manifest["kind"], valid_case.manifest["metadata"]["name"])


def test_says_what_is_wrong_and_only_that(invalid_case: Case, tmp_path: Path) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        _load(invalid_case, tmp_path)
    found = [(path_text(problem.path), problem.message) for problem in caught.value.problems]
    assert caught.value.exit_code == 64
    for place, piece in invalid_case.complaints:
        assert any(place == there and piece in message for there, message in found), found
    assert len(found) == len(invalid_case.complaints), found
    assert not any("hunter2" in message or "ter2@" in message for _, message in found), "a password is not repeated"


def test_what_may_change(changed_case: Case) -> None:
    old, new = parse_job(changed_case.base), parse_job(changed_case.manifest)
    if not changed_case.expect:
        check_update(old, new)
        return
    with pytest.raises(InvalidManifestError) as caught:
        check_update(old, new)
    found = {path_text(problem.path): problem.message for problem in caught.value.problems}
    assert found.keys() == changed_case.expect.keys()
    for place, piece in changed_case.complaints:
        assert piece in found[place]
