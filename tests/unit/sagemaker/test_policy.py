"""docs/sagemaker-policy.json: what zerotune asks AWS for, and no more."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient

from tests.unit.sagemaker.account import UNTIL_STOPPED, Account
from tests.unit.sagemaker.jobs import sagemaker_job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.sagemaker.execution_role import with_role
from zerotune_operator.backends.sagemaker.logs import last_lines

POLICY = Path(__file__).parents[3] / "docs" / "sagemaker-policy.json"
RIGHTS = {
    "CreateTrainingJob": {"sagemaker:CreateTrainingJob", "sagemaker:AddTags", "iam:PassRole"},
    "DescribeTrainingJob": {"sagemaker:DescribeTrainingJob"},
    "StopTrainingJob": {"sagemaker:StopTrainingJob"},
    "UpdateTrainingJob": {"sagemaker:UpdateTrainingJob"},
    "GetObject": {"s3:GetObject", "s3:ListBucket"},
    "ListObjectsV2": {"s3:ListBucket"},
    "PutObject": {"s3:PutObject"},
    "DescribeLogStreams": {"logs:DescribeLogStreams"},
    "GetLogEvents": {"logs:GetLogEvents"},
    "GetCallerIdentity": set(),
    "GetRole": {"iam:GetRole"},
}
"""What each call takes, by the Service Authorization Reference; without s3:ListBucket a missing object is a 403."""


@pytest.mark.slow
def test_every_call_made_is_allowed_and_every_right_is_used(
    account: Account, assumed_role: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assumed_role("sagemaker.amazonaws.com")
    made: set[str] = set()
    call = BaseClient._make_api_call

    def record(client: BaseClient, operation: str, request: dict[str, Any]) -> Any:
        if threading.current_thread().name.startswith(("MainThread", "aws")):  # Others are the stand-in's.
            made.add(operation)
        return call(client, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", record)
    # It runs until it is stopped.
    account.stand_in.command = UNTIL_STOPPED
    job = sagemaker_job()
    with_role(job)

    async def run() -> None:
        running = await account.drive(job, lambda status: status.phase == "Running")
        await account.drive(sagemaker_job(keepAliveSeconds=60), lambda _: "UpdateTrainingJob" in made, running)
        await account.backend(job).finalize(JobStatus())

    asyncio.run(run())
    list(last_lines(job, JobStatus(), 0, None))

    allowed = {
        action
        for statement in json.loads(POLICY.read_text())["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert {right for operation in made for right in RIGHTS[operation]} == allowed
