"""What the operator was installed with, as far as its jobs are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES, PodPolicy
from zerotune_operator.backends.sagemaker.settings import UNKNOWN_SETTINGS, SageMakerSettings


@dataclass(frozen=True)
class Installation:
    """What the operator was installed with."""

    trainer_image: str
    """Image of the pods of a job that names none."""
    image_pull_policy: str = "IfNotPresent"
    operator_namespace: str = "zerotune-system"
    """Where the operator runs."""
    monitoring_namespaces: tuple[str, ...] = ()
    """Where what scrapes the metrics of jobs runs, if elsewhere."""
    pod_policy: PodPolicy = field(default_factory=PodPolicy)
    """What the pods of jobs may be."""
    sagemaker: SageMakerSettings = field(default_factory=SageMakerSettings)
    """Which jobs may run on SageMaker, and with what."""
    ttl_seconds_after_finished: int | None = None
    """`runPolicy.ttlSecondsAfterFinished` of a job that sets none."""


UNKNOWN_INSTALLATION = Installation(trainer_image="unknown", pod_policy=ANY_NAMES, sagemaker=UNKNOWN_SETTINGS)
"""For objects that are made to see whether they can be made."""
