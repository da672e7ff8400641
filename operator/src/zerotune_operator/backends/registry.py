"""The backends, by name: what checks a job for each of them, what lays it out, and what runs it.

A new backend is a package beside `kubernetes`, `sagemaker` and `local`, and an entry of `BACKENDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import Origin, model_origin
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Backend
from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.kubernetes import layout as kubernetes_layout
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.model_source import known_shape
from zerotune_operator.backends.kubernetes.render import render, render_inspection
from zerotune_operator.backends.kubernetes.requirements import require_kubernetes
from zerotune_operator.backends.local import layout as local_layout
from zerotune_operator.backends.local.backend import LocalBackend
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.inputs import check_inputs
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.local.requirements import require_local
from zerotune_operator.backends.sagemaker import layout as sagemaker_layout
from zerotune_operator.backends.sagemaker.known_types import require_known_types
from zerotune_operator.backends.sagemaker.render import TrainingJob
from zerotune_operator.backends.sagemaker.render import render as render_training_job
from zerotune_operator.backends.sagemaker.requirements import require_readable, require_sagemaker
from zerotune_operator.plan import Plan, RuntimeLayout
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError

if TYPE_CHECKING:
    from zerotune_operator.backends.kubernetes.cluster import Cluster


class Target(StrEnum):
    """A backend that a job can be checked and planned for."""

    KUBERNETES = "kubernetes"
    SAGEMAKER = "sagemaker"
    LOCAL = "local"


def _no_facts(_: Job) -> list[tuple[str, str]]:
    return []


def _no_uid(_: Job, __: bool) -> None:
    return None


def _no_request(*_: object) -> dict[str, Any]:
    return {}


async def _recorded_shape(_: Job, status: JobStatus, __: Hub) -> ModelShape | None:
    """Of a backend that does not ask the Hub."""
    return status.model


@dataclass(frozen=True)
class RegisteredBackend:
    """What a backend does for a job before the job runs, and how it comes to run it. Errors are ConfigurationErrors."""

    require: Callable[[Job], None]
    """Sees that it supports everything that the job asks for."""
    outline: Callable[[Job, str], RuntimeLayout]
    """The runtime layout, with the URI of the model, as far as it is known without I/O."""
    layout: Callable[[Job, str], RuntimeLayout]
    """The runtime layout of an attempt that would start now."""
    model_uri: Callable[[Job], str]
    """Where this machine reads the shape of the model."""
    output_of: Callable[[Origin], str]
    """Output of another job that is not in the same file."""
    check_outputs: Callable[[Job, Mapping[str, str]], object]
    """Sees that a job can read the outputs of other jobs, by the part of the spec that each is for."""
    check_probe: Callable[[Job, str, Installation], object]
    """Sees that what reads the shape of a model, at a URI, can be made."""
    check_plan: Callable[[Plan, Job, Installation], object]
    """Sees that what a plan asks for can be made."""
    check_inputs: Callable[[Job, Collection[str]], object]
    """Sees that what a job reads is there, but for the outputs, by URI, of jobs before it. What lies elsewhere than on
    this machine is not asked for."""
    under_operator: Callable[[Job, Cluster], Backend[Any]] | None
    """Makes the backend of a job that the operator runs. None: the operator runs no job on it."""
    outlives_resource: bool = False
    """Whether what runs a job goes on when its resource is deleted, unless it is stopped: then the resource has a
    finalizer."""
    under_run: Callable[[Job, JobFolder, Home, int], LocalBackend] | None = None
    """Makes the backend of a job that `zerotune run` runs, of its locked folder. None: `zerotune run` runs no job on
    it."""
    known_shape: Callable[[Job, JobStatus, Hub], Awaitable[ModelShape | None]] = _recorded_shape
    """The shape of the model, where it is known without starting anything: the webhook plans with it."""
    uid: Callable[[Job, bool], str | None] = _no_uid
    """The uid of a job that `zerotune run` runs and this machine does not know, but another one may; True: of one that
    begins anew. None: any will do."""
    facts: Callable[[Job], list[tuple[str, str]]] = _no_facts
    """What `zerotune plan` prints of where the job runs: title and text of each line."""
    request: Callable[[Plan, Job, Installation], dict[str, Any]] = _no_request
    """What is asked of a service for a plan, where that is one request."""


def _require_sagemaker(job: Job) -> None:
    require_sagemaker(job)
    require_known_types(job)


def _sagemaker_job(plan: Plan, job: Job, installation: Installation) -> TrainingJob:
    return render_training_job(plan, job, installation.sagemaker)


def _kubernetes_backend(job: Job, cluster: Cluster) -> Backend[Any]:
    # The clients of a cluster take a second to import, and `zerotune plan` needs none.
    from zerotune_operator.backends.kubernetes.backend import KubernetesBackend

    return KubernetesBackend(job, cluster)


def _sagemaker_backend(job: Job, cluster: Cluster) -> Backend[Any]:
    from zerotune_operator.backends.sagemaker.on_cluster import backend_on_cluster  # boto3 takes time to import.

    return backend_on_cluster(job, cluster)


def _sagemaker_uid(job: Job, fresh: bool) -> str:
    from zerotune_operator.backends.sagemaker.standalone import known_uid  # As above.

    return sagemaker_layout.fresh_uid_of(job) if fresh else asyncio.run(known_uid(job))


def _kubernetes_layout(job: Job, model_uri: str) -> RuntimeLayout:
    return kubernetes_layout.place(job, 0, model_uri)


def _written_model_uri(job: Job) -> str:
    """A path in a pod means nothing here, so the shape is read where the spec says the model is."""
    origin = model_origin(job)
    return _unknown_output(origin) if origin else str(job.spec.model.uri)


def _unknown_output(origin: Origin) -> str:
    """Where a job of the cluster writes is not known on this machine."""
    raise ConfigurationError(
        f"{origin} is no job of this file", f"put that {origin.kind} into the file, before this one"
    )


def _output_for_sagemaker(origin: Origin) -> str:
    """`zerotune run` finds the jobs that have run in the same home; those of a cluster are not known here."""
    home = Home.of_environment()
    if (home.job(origin.kind, origin.name).path / "job.yaml").is_file():
        return local_layout.output_of(origin, home)
    raise ConfigurationError(
        f"{origin} is no job of this file, and no {origin.kind} in {home.path}",
        f"put that {origin.kind} into the file, before this one, or run it first",
    )


def _model_for_sagemaker(job: Job) -> str:
    origin = model_origin(job)
    return _output_for_sagemaker(origin) if origin else sagemaker_layout.model_source(job, str(job.spec.model.uri))


def _local_outline(job: Job, model_uri: str) -> RuntimeLayout:
    home = Home.of_environment()
    return local_layout.outline(job, home.job(job.kind, job.metadata.name), home, model_uri)


def _local_layout(job: Job, model_uri: str) -> RuntimeLayout:
    home = Home.of_environment()
    folder, gpus = home.job(job.kind, job.metadata.name), local_layout.gpus_for(job)
    return local_layout.place(job, folder, home, gpus, model_uri)


def _nothing(*_: object) -> None:
    """Of a backend that makes nothing of it."""


BACKENDS: dict[Target, RegisteredBackend] = {
    Target.KUBERNETES: RegisteredBackend(
        require=require_kubernetes,
        outline=_kubernetes_layout,
        layout=_kubernetes_layout,
        model_uri=_written_model_uri,
        output_of=_unknown_output,
        check_outputs=_nothing,
        check_probe=render_inspection,
        check_plan=render,
        check_inputs=_nothing,
        under_operator=_kubernetes_backend,
        known_shape=known_shape,
    ),
    Target.SAGEMAKER: RegisteredBackend(
        require=_require_sagemaker,
        outline=sagemaker_layout.place,
        layout=sagemaker_layout.place,
        model_uri=_model_for_sagemaker,
        output_of=_output_for_sagemaker,
        check_outputs=require_readable,
        check_probe=lambda job, _, installation: installation.sagemaker.require_namespace(job.metadata.namespace),
        check_plan=_sagemaker_job,
        check_inputs=_nothing,
        under_operator=_sagemaker_backend,
        outlives_resource=True,
        uid=_sagemaker_uid,
        facts=sagemaker_layout.facts,
        request=lambda *made: _sagemaker_job(*made).request,
    ),
    Target.LOCAL: RegisteredBackend(
        require=require_local,
        outline=_local_outline,
        layout=_local_layout,
        model_uri=lambda job: local_layout.model_uri(job, Home.of_environment()),
        output_of=lambda origin: local_layout.output_of(origin, Home.of_environment()),
        check_outputs=_nothing,
        check_probe=_nothing,
        check_plan=_nothing,
        check_inputs=check_inputs,
        under_operator=None,
        under_run=LocalBackend,
    ),
}


def operator_target(job: Job) -> Target:
    """The backend that runs a job under the operator: the one that the spec names, else Kubernetes."""
    given = job.spec.backend.model_dump(exclude_none=True, by_alias=True)
    named = (name for name, registered in BACKENDS.items() if name.value in given and registered.under_operator)
    return next(named, Target.KUBERNETES)


def operator_backend(job: Job, cluster: Cluster) -> Backend[Any]:
    """The backend of a job that the operator runs.

    Raises:
        ConfigurationError: it does not support what the job asks for.
    """
    create = BACKENDS[operator_target(job)].under_operator
    assert create is not None, "operator_target answers none that the operator does not run"
    return create(job, cluster)


def run_backend(job: Job, folder: JobFolder, home: Home, lock: int) -> LocalBackend:
    """The backend of a job that `zerotune run` runs.

    Args:
        job: The job.
        folder: Its folder, locked.
        home: Where the jobs of this machine are.
        lock: The file descriptor of `folder.locked()`.

    Raises:
        ConfigurationError: the machine has fewer GPUs than the job asks for.
    """
    create = BACKENDS[Target.LOCAL].under_run
    assert create is not None, "zerotune run runs jobs on this machine"
    return create(job, folder, home, lock)
