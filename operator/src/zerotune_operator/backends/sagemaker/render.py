"""Plan -> the training job of an attempt, as `CreateTrainingJob` takes it, and the files on S3 that it reads. Pure.

A request has room for 256 characters an argument and 512 a variable, so the job's folder (`config.json`, `hostfile`,
`deepspeed.json`) travels as a channel of input: SageMaker copies it to every instance before the container starts. Of
several instance types each has a folder of its name there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zerotune_operator.api.backend import SageMakerSpec
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.sagemaker.channels import channel_requests, s3_channel
from zerotune_operator.backends.sagemaker.layout import attempt_uri, files_uri, job_name, sagemaker_of
from zerotune_operator.backends.sagemaker.requirements import OWN_PREFIX
from zerotune_operator.backends.sagemaker.settings import SageMakerSettings
from zerotune_operator.plan import Plan
from zerotune_trainer.launching.identity import ATTEMPT_VARIABLE, DIGEST_VARIABLE, UID_VARIABLE
from zerotune_trainer.launching.instance import CHANNEL, STATUS_URI_FILE

Request = dict[str, Any]
"""A request to SageMaker, or a part of one."""

UID_TAG, ATTEMPT_TAG = f"{OWN_PREFIX}job-uid", f"{OWN_PREFIX}attempt"
DIGEST_TAG = f"{OWN_PREFIX}config-digest"
_ENTRYPOINT = ["tini", "--", "zerotune-sagemaker"]


@dataclass(frozen=True)
class TrainingJob:
    """The training job of one attempt."""

    name: str
    attempt: int
    request: Request
    """What `CreateTrainingJob` takes."""
    folder: str
    """URI of the folder that the instances receive."""
    files: dict[str, str]
    """Its files, by name, besides the secret of the attempt, which is made with it."""
    kms_key: str | None
    """What encrypts them."""


def render(plan: Plan, job: Job, settings: SageMakerSettings) -> TrainingJob:
    """The training job of the attempt that `plan` is for.

    Raises:
        ConfigurationError: the installation has no role or image for it, or does not allow what it names.
    """
    sagemaker, attempt = sagemaker_of(job), plan.config.job.attempt
    base = attempt_uri(job, attempt)
    folder, name = files_uri(job, attempt), job_name(job, attempt)
    request = {
        "TrainingJobName": name,
        "AlgorithmSpecification": _algorithm(sagemaker, settings),
        "RoleArn": settings.role(sagemaker.role_arn),
        "InputDataConfig": [s3_channel(CHANNEL, folder), *channel_requests(sagemaker)],
        "OutputDataConfig": _given({"S3OutputPath": base, "KmsKeyId": sagemaker.output_kms_key_id}),
        "ResourceConfig": _resources(sagemaker, plan),
        "StoppingCondition": _stopping(sagemaker),
        "Environment": sagemaker.environment | _identity(plan),
        "Tags": _tags(sagemaker, plan),
        "EnableInterContainerTrafficEncryption": sagemaker.encrypt_traffic,
        **_options(sagemaker),
    }
    files = plan.artifacts() | {STATUS_URI_FILE: f"{base}/status"}
    return TrainingJob(name, attempt, request, folder, files, sagemaker.output_kms_key_id)


def _algorithm(sagemaker: SageMakerSpec, settings: SageMakerSettings) -> Request:
    metrics = [{"Name": name, "Regex": regex} for name, regex in sagemaker.metric_definitions.items()]
    return _given(
        {
            "TrainingImage": settings.image_of(sagemaker.image),
            "TrainingInputMode": "File",
            "ContainerEntrypoint": _ENTRYPOINT,
            "MetricDefinitions": metrics or None,
        }
    )


def _resources(sagemaker: SageMakerSpec, plan: Plan) -> Request:
    preferences = [{"InstanceType": each.instance_type} for each in plan.alternatives]
    return _given(
        {
            "InstanceType": sagemaker.instance_type,
            "InstancePreferences": preferences or None,
            "InstanceCount": plan.topology.nodes,
            "VolumeSizeInGB": sagemaker.volume_size_gb,
            "VolumeKmsKeyId": sagemaker.volume_kms_key_id,
            "KeepAlivePeriodInSeconds": sagemaker.keep_alive_seconds,
            "TrainingPlanArn": sagemaker.training_plan_arn,
        }
    )


def _stopping(sagemaker: SageMakerSpec) -> Request:
    wait = (sagemaker.max_wait_seconds or sagemaker.max_runtime_seconds) if sagemaker.spot else None
    return _given(
        {
            "MaxRuntimeInSeconds": sagemaker.max_runtime_seconds,
            "MaxWaitTimeInSeconds": wait,
            "MaxPendingTimeInSeconds": sagemaker.max_pending_seconds,
        }
    )


def _identity(plan: Plan) -> dict[str, str]:
    """What the container compares its `config.json` with."""
    job = plan.config.job
    return {
        UID_VARIABLE: job.uid,
        ATTEMPT_VARIABLE: str(job.attempt),
        DIGEST_VARIABLE: plan.config.digest(),
    }


def _tags(sagemaker: SageMakerSpec, plan: Plan) -> list[Request]:
    job = plan.config.job
    own = {
        f"{OWN_PREFIX}job-name": job.name,
        f"{OWN_PREFIX}job-kind": job.kind,
        UID_TAG: job.uid,
        ATTEMPT_TAG: str(job.attempt),
        DIGEST_TAG: plan.config.digest(),
    }
    return [{"Key": key, "Value": value} for key, value in (sagemaker.tags | own).items()]


def _options(sagemaker: SageMakerSpec) -> Request:
    """What is left out unless the spec asks for it."""
    vpc = {"SecurityGroupIds": sagemaker.security_group_ids, "Subnets": sagemaker.subnets}
    attempts = sagemaker.retry_attempts
    return _given(
        {
            # SageMaker rejects it beside InstancePreferences, whatever it says.
            "EnableManagedSpotTraining": sagemaker.spot if sagemaker.instance_type else None,
            "VpcConfig": vpc if sagemaker.subnets else None,
            "RetryStrategy": {"MaximumRetryAttempts": attempts} if attempts else None,
            "InfraCheckConfig": {"EnableInfraCheck": True} if sagemaker.infrastructure_check else None,
            "RemoteDebugConfig": {"EnableRemoteDebug": True} if sagemaker.remote_debug else None,
            "ExperimentConfig": _experiment(sagemaker),
        }
    )


def _experiment(sagemaker: SageMakerSpec) -> Request | None:
    experiment = sagemaker.experiment
    if experiment is None:
        return None
    names = {
        "ExperimentName": experiment.experiment_name,
        "TrialName": experiment.trial_name,
        "RunName": experiment.run_name,
    }
    return _given(names) or None


def _given(fields: Request) -> Request:
    return {name: value for name, value in fields.items() if value is not None}
