"""Where this process runs: a pod, an instance of SageMaker and a machine get their rights in different ways."""

from __future__ import annotations

import os


def in_pod() -> bool:
    """Whether this is a pod of a Kubernetes cluster."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def in_training_job() -> bool:
    """Whether this is a container of a SageMaker training job, which sets the variable."""
    return "TRAINING_JOB_NAME" in os.environ
