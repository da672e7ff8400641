"""The execution role of a job that names none and runs without a cluster: where SageMaker's own SDK looks for it.

    the notebook        `ExecutionRoleArn` of /opt/ml/metadata/resource-metadata.json
    the credentials     the role that they are of, where SageMaker may assume it (sts:GetCallerIdentity, iam:GetRole)

https://sagemaker.readthedocs.io/en/stable/api/utility/session.html, `get_execution_role`
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import boto3

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.sagemaker.client import open_session
from zerotune_operator.backends.sagemaker.errors import aws_errors
from zerotune_operator.backends.sagemaker.layout import sagemaker_of
from zerotune_trainer.errors import ConfigurationError

NOTEBOOK = Path("/opt/ml/metadata/resource-metadata.json")
_SERVICE = "sagemaker.amazonaws.com"
_ASSUMED = re.compile(r"arn:[a-z-]+:sts::[0-9]+:assumed-role/([^/]+)/.+")


def with_role(job: Job, notebook: Path = NOTEBOOK) -> Job:
    """A job that names its role: its own, or the one that is found. It blocks.

    Raises:
        ConfigurationError: none is found; the message says where it was looked for.
        TemporaryError: AWS does not answer.
    """
    sagemaker = sagemaker_of(job)
    if sagemaker.role_arn is not None:
        return job
    with aws_errors("AWS cannot be asked for the execution role"):
        role = _of_notebook(notebook) or _of_credentials(open_session(sagemaker.region), notebook)
    named = job.spec.backend.model_copy(update={"sagemaker": sagemaker.model_copy(update={"role_arn": role})})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"backend": named})})


def _of_notebook(notebook: Path) -> str | None:
    if not notebook.is_file():
        return None
    found = json.loads(notebook.read_bytes()).get("ExecutionRoleArn")
    return found if isinstance(found, str) else None


def _of_credentials(session: boto3.Session, notebook: Path) -> str:
    caller = session.client("sts").get_caller_identity()["Arn"]
    assumed = _ASSUMED.fullmatch(caller)
    if assumed is None:
        raise _missing(notebook, f"the credentials are those of {caller}, which is no role")
    role: dict[str, Any] = session.client("iam").get_role(RoleName=assumed[1])["Role"]
    if _SERVICE not in json.dumps(role["AssumeRolePolicyDocument"]):
        raise _missing(notebook, f"SageMaker may not assume {role['Arn']}, of which the credentials are")
    return str(role["Arn"])


def _missing(notebook: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"no execution role: backend.sagemaker.roleArn is not set, {notebook} names none, and {reason}",
        "set backend.sagemaker.roleArn to the role that reads the data and writes the output, "
        "arn:aws:iam::ACCOUNT:role/ROLE",
    )
