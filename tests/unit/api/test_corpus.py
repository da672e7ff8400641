"""What is accepted and what is refused, with the words of the refusal."""

from __future__ import annotations

from typing import Any

import pytest

from zerotune_operator.api.load import InvalidManifestError, check_update, parse_job
from zerotune_operator.api.manifest_yaml import path_text


def test_is_accepted(valid_case: Any) -> None:
    job = parse_job(valid_case.manifest)
    assert (job.kind, job.metadata.name) == (valid_case.manifest["kind"], valid_case.manifest["metadata"]["name"])


def test_says_what_is_wrong_and_only_that(invalid_case: Any) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        parse_job(invalid_case.manifest)
    found = {path_text(problem.path): problem.message for problem in caught.value.problems}
    assert caught.value.exit_code == 64
    for place, piece in invalid_case.expect.items():
        assert place in found
        assert piece in found[place]
    assert len(found) == len(invalid_case.expect), found


def test_what_may_change(changed_case: Any) -> None:
    old, new = parse_job(changed_case.base), parse_job(changed_case.manifest)
    if not changed_case.expect:
        check_update(old, new)
        return
    with pytest.raises(InvalidManifestError) as caught:
        check_update(old, new)
    found = {path_text(problem.path): problem.message for problem in caught.value.problems}
    assert found.keys() == changed_case.expect.keys()
    for place, piece in changed_case.expect.items():
        assert piece in found[place]
