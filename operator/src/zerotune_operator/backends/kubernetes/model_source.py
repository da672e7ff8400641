"""What a job on a cluster starts from: where its model is, and what shape it has; where the records are that another
job writes. Decided before any pod with a GPU starts.

model.fromFineTuneJob        the output of that job, once it has succeeded; its shape is that job's, but where a script
                             wrote it. A job that has begun goes on from it when that one is deleted
model.checkpoint             a checkpoint of that job, as soon as it has begun, and also when it has failed
data.*.fromInferenceJob      likewise
hf:// without credentials    the operator asks the Hub for config.json
everything else              what a job of the namespace with the same model knows of it, else the Job
                             `NAME-HASH-a-inspect` reads it in a pod, where claims and Secrets are

Every rank compares the model with the shape that the plan was made for. Where that has changed meanwhile the attempt
ends with ModelChanged, and before the next one the model is read itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import RING_REMEDY, Origin, model_origin, origins_of, record_origins
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_operator.plan.outputs import checkpoint_of, shape_of_output
from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.config.sources import Model
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ModelChangedError


class Source(NamedTuple):
    """A model that is there."""

    uri: str
    """As a user writes it."""
    shape: ModelShape | None
    """None: a pod has to read it."""


def source_keys(key: Key, resource: Object) -> list[Key]:
    """The jobs whose output a resource starts from."""
    return [Key(origin.kind, key.namespace, origin.name) for origin in origins_of(resource["spec"])]


async def find_model(job: Job, status: JobStatus, cache: Cache, hub: Hub) -> Source | Awaited:
    """The job's model, or what it waits for.

    Raises:
        InputMissingError: there will be none.
        ConfigurationError: it is not a language model, or waits for `job` itself.
    """
    model = job.spec.model
    changed = has_changed(status)
    if origin := model_origin(job):
        if status.model_uri is not None:  # It was there when the job began, and lies there still.
            return Source(status.model_uri, None if changed else status.model)
        return _output_of(origin, job, cache) if model.checkpoint is None else _checkpoint_of(origin, job, cache)
    uri = model.uri
    assert uri is not None, "validation asks for one of the two"
    if status.model is not None and not changed:
        return Source(uri, status.model)
    if _is_public(uri, model):
        if changed:
            hub.forget(uri, model.revision)
        return Source(uri, await hub.shape(uri, model.revision))
    return Source(uri, None if changed else _known_to_others(job, cache))


async def known_shape(job: Job, status: JobStatus, hub: Hub) -> ModelShape | None:
    """The shape of the job's model, as far as no pod and no other job has to be asked for it; None where one has to be.

    Raises:
        InputMissingError: the Hub has no such model, or wants a token.
        ConfigurationError: it is not a language model.
    """
    model, uri = job.spec.model, job.spec.model.uri
    if status.model is not None or uri is None or not _is_public(uri, model):
        return status.model
    return await hub.shape(uri, model.revision)


def find_records(job: Job, status: JobStatus, cache: Cache) -> dict[str, str] | Awaited:
    """Outputs of the jobs that the data names, by the part of the spec that they are for, or what the job waits for.

    Raises:
        InputMissingError: there will be none.
        ConfigurationError: it waits for `job` itself.
    """
    uris = dict(status.data_uris)  # They were there when the job began, and lie there still.
    for origin in record_origins(job):
        if origin.part not in uris:
            found = _output_of(origin, job, cache)
            if isinstance(found, Awaited):
                return found
            uris[origin.part] = found.uri
    return uris


def has_changed(status: JobStatus) -> bool:
    """Whether the last attempt found another model than the one that it was planned for."""
    return bool(status.attempts) and status.attempts[-1].failure_class == ModelChangedError.failure_class


def _is_public(uri: str, model: Model) -> bool:
    """Whether the operator may ask the Hub for the model: it does so without a token."""
    return uri.startswith("hf://") and model.credentials is None


def _known_to_others(job: Job, cache: Cache) -> ModelShape | None:
    """What the youngest job of the namespace that names the same model knows of it. A path in a pod is no such name: it
    depends on the volumes that the pod has.
    """
    wanted = _name_of(job.spec.model.model_dump(by_alias=True, exclude_none=True))
    if wanted["uri"].startswith("file://"):
        return None
    found = [
        (resource["metadata"]["creationTimestamp"], shape)
        for key, resource in cache.resources()
        if key.namespace == job.metadata.namespace and _name_of(resource["spec"]["model"]) == wanted
        if (shape := (resource.get("status") or {}).get("model"))
    ]
    return ModelShape.model_validate(max(found, key=itemgetter(0))[1]) if found else None


def _name_of(model: dict[str, Any]) -> dict[str, Any]:
    return {name: model.get(name) for name in ("uri", "revision", "credentials")}


def _output_of(origin: Origin, job: Job, cache: Cache) -> Source | Awaited:
    key = Key(origin.kind, job.metadata.namespace, origin.name)
    reason, what = ("ModelAwaited", "the model") if origin.is_model else ("DataAwaited", origin.part)
    resource = cache.resource(key)
    if resource is None:
        return Awaited(reason, f"{key} is not there: create it, or correct {origin.path}")
    status = JobStatus.model_validate(resource.get("status") or {})
    if status.phase == "Failed":
        cause = f": {status.root_cause.message}" if status.root_cause else ""
        raise InputMissingError(f"{key}, whose output is {what}, failed{cause}", "correct that job, then this one")
    if status.phase != "Succeeded" or status.output is None:
        _require_no_ring(origin, key, Key(job.kind, key.namespace, job.metadata.name), cache)
        return Awaited(reason, f"waits for {key}, which is {status.phase or 'Pending'}")
    return Source(status.output.uri, _shape_of_output(resource["spec"], status))


def _checkpoint_of(origin: Origin, job: Job, cache: Cache) -> Source | Awaited:
    """A checkpoint of a job that has begun, whatever became of it."""
    key = Key(origin.kind, job.metadata.namespace, origin.name)
    resource, name = cache.resource(key), job.spec.model.checkpoint
    if resource is None:
        return Awaited("ModelAwaited", f"{key} is not there: create it, or correct {origin.path}")
    status = JobStatus.model_validate(resource.get("status") or {})
    if status.model is None or status.model_uri is None:
        if status.phase == "Failed":
            raise InputMissingError(f"{key} failed before it began: it has no checkpoint", "correct that job")
        return Awaited("ModelAwaited", f"waits for {key}, which has not begun")
    return Source(*checkpoint_of(resource["spec"], origin, str(name), status.model, status.model_uri))


def _require_no_ring(origin: Origin, first: Key, job: Key, cache: Cache) -> None:
    """See that what a job waits for does not wait for the job itself.

    Raises:
        ConfigurationError: it does, by way of further jobs.
    """
    ways, seen = [[first]], set[Key]()
    while ways:
        *_, last = way = ways.pop()
        if last == job:
            ring = " -> ".join(map(str, (job, *way)))
            raise ConfigurationError(
                f"{origin} closes a ring of jobs, each of which waits for the next: {ring}", RING_REMEDY
            )
        waiting = cache.resource(last)
        if last not in seen and waiting and (waiting.get("status") or {}).get("phase") in (None, "Pending"):
            ways += [[*way, key] for key in source_keys(last, waiting)]
        seen.add(last)


def _shape_of_output(spec: Mapping[str, Any], status: JobStatus) -> ModelShape | None:
    if spec.get("method") == "script":  # What it wrote, and whether that is a model, is its own affair.
        return None
    adapter = spec.get("adapter")
    if status.model is None or status.model_uri is None:
        return status.model
    return shape_of_output(Adapter.model_validate(adapter) if adapter else None, status.model, status.model_uri)
