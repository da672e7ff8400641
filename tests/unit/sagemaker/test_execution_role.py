"""The execution role of a job that names none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.backends.sagemaker.execution_role import with_role
from zerotune_operator.backends.sagemaker.layout import sagemaker_of
from zerotune_trainer.errors import ConfigurationError

pytestmark = pytest.mark.slow


def test_a_role_that_is_named_is_taken_without_asking() -> None:
    """R05."""
    assert with_role(sagemaker_job(roleArn=ROLE)) == sagemaker_job(roleArn=ROLE)


def test_a_notebook_says_its_role(tmp_path: Path) -> None:
    """R05."""
    notebook = tmp_path / "resource-metadata.json"
    notebook.write_text(json.dumps({"ResourceName": "space", "ExecutionRoleArn": ROLE}))
    assert with_role(sagemaker_job(), notebook) == sagemaker_job(roleArn=ROLE)


def test_the_role_of_the_credentials_is_taken_with_its_path(assumed_role: Callable[[str], str]) -> None:
    """R05."""
    role = assumed_role("sagemaker.amazonaws.com")
    assert ":role/service-role/notebook-" in role
    assert sagemaker_of(with_role(sagemaker_job())).role_arn == role


def test_a_role_that_sagemaker_may_not_assume_is_not_taken(assumed_role: Callable[[str], str]) -> None:
    role = assumed_role("ec2.amazonaws.com")
    with pytest.raises(ConfigurationError, match=f"SageMaker may not assume {role}, of which the cred") as caught:
        with_role(sagemaker_job())
    assert "set backend.sagemaker.roleArn to the role" in caught.value.hint


@pytest.mark.usefixtures("assumed_role")
def test_credentials_of_a_user_say_where_a_role_was_looked_for() -> None:
    places = r"resource-metadata.json names none, and the credentials are those of arn:aws:sts::\d+:user/\w+, which is"
    with pytest.raises(ConfigurationError, match=places):
        with_role(sagemaker_job())
