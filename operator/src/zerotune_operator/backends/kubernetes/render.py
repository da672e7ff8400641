"""Plan -> the objects of one attempt on a cluster. Pure: dictionaries, as the API server takes them.

    Service, NetworkPolicy    one of each a job, for all its attempts
    ConfigMap                 one an attempt, never changed: config.json, hostfile, deepspeed.json
    Secret                    one an attempt: what its ranks know each other by; its content is made with it
    Job                       one an attempt, a pod a node

All are owned by the FineTuneJob or InferenceJob and deleted with it, the Secret by way of the ConfigMap.
"""

from __future__ import annotations

from dataclasses import dataclass

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.job_state import QUEUE_LABEL
from zerotune_operator.backends.kubernetes.network import network_policy, service
from zerotune_operator.backends.kubernetes.objects import (
    CONFIG_DIGEST_ANNOTATION,
    Object,
    attempt_name,
    given,
    inspection_name,
    labels,
    metadata,
)
from zerotune_operator.backends.kubernetes.pod_template import CONTAINER, inspection_template, trainer_template
from zerotune_operator.lifecycle.replicas import NEVER_RETRIED
from zerotune_operator.plan import Plan
from zerotune_trainer.errors import ConfigurationError, StoppedError

__all__ = ["Installation", "Manifests", "Object", "render", "render_inspection"]

_CONFIG_MAP_LIMIT = 1 << 20
"""Bytes of data that the API server takes in a ConfigMap."""


@dataclass(frozen=True)
class Manifests:
    """The objects of one attempt, as they are applied."""

    shared: tuple[Object, ...]
    """Service, NetworkPolicy and ConfigMap, in this order: they exist before the Job."""
    secret: Object
    """The Secret, without what it holds. It is created once and never read, and belongs to the ConfigMap."""
    job: Object
    """The Indexed Job: a pod a node. It is created once and never applied again: its template cannot change, and
    where a queue admits it, `suspend` and parts of the template are the queue's."""


def render(plan: Plan, job: Job, installation: Installation) -> Manifests:
    """The objects of the attempt that `plan` is for.

    Raises:
        ConfigurationError: a pod cannot be had as the job describes it, or what pods receive is too large.
    """
    port = plan.config.launch.progress_port
    return Manifests(
        shared=(service(job, port), network_policy(job, port, installation), _config_map(plan, job)),
        secret=_secret(plan, job),
        job=_indexed_job(plan, job, installation),
    )


def render_inspection(job: Job, model_uri: str, installation: Installation, failed: int = 0) -> Object:
    """The Job that reads the shape of a model which only pods can reach.

    Args:
        job: The job that needs to know.
        model_uri: The model as the spec names it, or the output of the FineTuneJob that it names.
        installation: What the operator was installed with.
        failed: How many of its kind failed before it, in a row; it says so itself, for an operator that starts anew.

    Raises:
        ConfigurationError: a pod cannot be had as the job describes it.
    """
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(job, inspection_name(job), labels(job, "inspection", failed or None) | _queue(job)),
        "spec": {"backoffLimit": 0, "template": inspection_template(job, model_uri, installation)},
    }


def _config_map(plan: Plan, job: Job) -> Object:
    attempt, files = plan.config.job.attempt, plan.artifacts()
    _require_small(files)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(plan, job, labels(job, "trainer", attempt)),
        "immutable": True,
        "data": files,
    }


def _secret(plan: Plan, job: Job) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": _metadata(plan, job, labels(job, "trainer", plan.config.job.attempt)),
        "immutable": True,
    }


def _metadata(plan: Plan, job: Job, labels: dict[str, str]) -> Object:
    """Of the ConfigMap, the Secret and the Job of the attempt, which have one name."""
    annotations = {CONFIG_DIGEST_ANNOTATION: plan.config.digest()}
    return metadata(job, attempt_name(job, plan.config.job.attempt), labels, annotations)


def _require_small(files: dict[str, str]) -> None:
    sizes = {name: len(text.encode()) for name, text in files.items()}
    if sum(sizes.values()) > _CONFIG_MAP_LIMIT:
        listed = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise ConfigurationError(
            f"what every pod receives is {sum(sizes.values()):,} bytes ({listed}), and a ConfigMap holds "
            f"{_CONFIG_MAP_LIMIT:,}",
            "shorten what makes it long: folders or globs for many uris, a chat template or DeepSpeed settings",
        )


def _indexed_job(plan: Plan, job: Job, installation: Installation) -> Object:
    attempt, nodes, queue = plan.config.job.attempt, plan.topology.all_nodes, _queue(job)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(plan, job, labels(job, "trainer", attempt) | queue),
        "spec": {
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            # A pod that fails does not take the others along, which have yet to report what they saw of it: that takes
            # a limit for each index; the one for all is unlimited with it.
            **_restarts(plan, job),
            "podReplacementPolicy": "Failed",
            # The queue starts it.
            **given({"suspend": True if queue else None}),
            "template": trainer_template(plan, job, installation),
        },
    }


def _restarts(plan: Plan, job: Job) -> Object:
    """How often the pod of an index is replaced, and after which failures.

    Of one replica never, be the pod preempted: ranks cannot join a running process group, so the attempt restarts as a
    whole. Of several replicas one comes back alone: the peers of a pod that is lost end with it.
    """
    if plan.topology.replicas == 1:
        return {"backoffLimitPerIndex": 0}
    final = sorted(NEVER_RETRIED - {StoppedError.exit_code})
    return {
        "backoffLimitPerIndex": job.spec.run_policy.max_restarts,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": final},
                },
            ]
        },
    }


def _queue(job: Job) -> dict[str, str]:
    """The label of the queue, as all Jobs of a namespace may need one."""
    return given({QUEUE_LABEL: job.spec.run_policy.queue})
