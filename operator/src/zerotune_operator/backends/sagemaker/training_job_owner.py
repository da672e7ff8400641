"""Whose a training job is that has the name of an attempt, by what nobody can change of it later. Pure.

`DescribeTrainingJob` has all of it, and tags are neither there nor safe. A training job that somebody copied, in the
console for example, has the job's uid in its environment as well: its number, folder or output is another then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.sagemaker.layout import attempt_uri, files_uri, job_name
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.launching.identity import ATTEMPT_VARIABLE, UID_VARIABLE
from zerotune_trainer.launching.instance import CHANNEL


def is_own(description: Mapping[str, Any], job: Job, attempt: int) -> bool:
    """Whether a training job is the one that was created for an attempt of a job."""
    environment = description.get("Environment", {})
    return (
        environment.get(UID_VARIABLE) == job.metadata.uid
        and environment.get(ATTEMPT_VARIABLE) == str(attempt)
        and _folder(description.get("OutputDataConfig", {}).get("S3OutputPath")) == attempt_uri(job, attempt)
        and _folder(_files_of(description)) == files_uri(job, attempt)
    )


def foreign(job: Job, attempt: int) -> ConfigurationError:
    """What is wrong where one has the name of an attempt and is not its own."""
    return ConfigurationError(
        f"SageMaker has a training job {job_name(job, attempt)} that this job has not created, and its attempt "
        f"{attempt} has that name: somebody made it by hand, or copied another one",
        "delete that training job, then run this job again; or give this job another name",
    )


def _files_of(description: Mapping[str, Any]) -> str | None:
    """Where the container's `config.json` comes from."""
    sources = (each["DataSource"] for each in description.get("InputDataConfig", []) if each["ChannelName"] == CHANNEL)
    return next((source["S3DataSource"]["S3Uri"] for source in sources if "S3DataSource" in source), None)


def _folder(uri: str | None) -> str | None:
    return uri.rstrip("/") if uri else None
