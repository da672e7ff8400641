"""What of a training job that runs is not as the spec has it now, as `UpdateTrainingJob` takes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zerotune_operator.api.backend import SageMakerSpec

_DEBUGGABLE = frozenset({"Downloading", "Training"})
"""Values of `SecondaryStatus` in which remote debugging can be switched."""


def changes_of(sagemaker: SageMakerSpec, description: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be changed; empty where the training job is as the spec has it, or is ending.

    Args:
        sagemaker: What the spec has now.
        description: What `DescribeTrainingJob` answers.
    """
    if description["TrainingJobStatus"] != "InProgress":
        return {}
    return _keep_alive(sagemaker, description) | _remote_debug(sagemaker, description)


def _keep_alive(sagemaker: SageMakerSpec, description: Mapping[str, Any]) -> dict[str, Any]:
    wanted = sagemaker.keep_alive_seconds or 0
    found = description.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds", 0)
    return {} if wanted == found else {"ResourceConfig": {"KeepAlivePeriodInSeconds": wanted}}


def _remote_debug(sagemaker: SageMakerSpec, description: Mapping[str, Any]) -> dict[str, Any]:
    found = description.get("RemoteDebugConfig", {}).get("EnableRemoteDebug", False)
    if sagemaker.remote_debug == found or description.get("SecondaryStatus") not in _DEBUGGABLE:
        return {}
    return {"RemoteDebugConfig": {"EnableRemoteDebug": sagemaker.remote_debug}}
