"""What a job on a cluster starts from: where its model is, and what shape it has; where the records are that another
job writes. Decided before any pod with a GPU starts.

model.fromFineTuneJob        the output of that job, once it has succeeded; its shape is that job's. A job that has
                             begun goes on from it when that one is deleted
data.*.fromInferenceJob      likewise
hf:// without credentials    the operator asks the Hub for config.json
everything else              what a job of the namespace with the same model knows of it, else the Job
                             `NAME-HASH-a-inspect` reads it in a pod, where claims and Secrets are

Every rank compares the model with the shape that the plan was made for. Where that has changed meanwhile the attempt
ends with ModelChanged, and before the next one the model is looked at itself.
"""

from __future__ import annotations

import asyncio
import logging
from operator import itemgetter
from typing import Any, NamedTuple

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import Origin, model_origin, origins_of, record_origins
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.kubernetes.cache import Key, Store
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.model_shape import model_shape
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_operator.plan.outputs import shape_of_output
from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.errors import InputMissingError, ModelChangedError, TemporaryError, ZerotuneError
from zerotune_trainer.sizing.shape import ModelShape

_SILENCE_SECONDS = 300

_logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """A model that is there."""

    uri: str
    """As a user writes it."""
    shape: ModelShape | None
    """None: a pod has to look."""


class Hub:
    """Shapes of models on the Hugging Face Hub, asked for once each.

    Where it does not answer about a model, nobody waits for that answer again for some time. Others are asked about: it
    may be a single model, of one tenant, that the Hub does not answer about.

    Args:
        patience: Seconds that an answer may take: a job waits for it, or the API server that asks the webhook.
    """

    def __init__(self, patience: float = 3.0) -> None:
        self._patience = patience
        self._asked: dict[tuple[str, str | None], asyncio.Task[ModelShape | ZerotuneError]] = {}
        self._silent_until: dict[tuple[str, str | None], float] = {}

    def forget(self, uri: str, revision: str | None) -> None:
        """Ask again next time."""
        self._asked.pop((uri, revision), None)

    async def shape(self, uri: str, revision: str | None) -> ModelShape | None:
        """The shape of an `hf://` model that anybody may read; None where the Hub has yet to answer, or will not.

        Raises:
            InputMissingError: the Hub has no such model, or wants a token.
            ConfigurationError: its config.json is not one of a language model.
        """
        model, now = (uri, revision), asyncio.get_running_loop().time()
        if model not in self._asked:
            self._silent_until = {each: until for each, until in self._silent_until.items() if now < until}
            if model in self._silent_until:
                return None
            self._asked[model] = asyncio.create_task(asyncio.to_thread(_answer, uri, revision))
        try:
            found = await asyncio.wait_for(asyncio.shield(self._asked[model]), self._patience)
        except TimeoutError:
            found = TemporaryError(f"no answer for {self._patience:g} s")
        if isinstance(found, ModelShape):
            return found
        self.forget(uri, revision)  # Another time the answer may be another.
        if not isinstance(found, TemporaryError):
            raise found
        self._silent_until[model] = now + _SILENCE_SECONDS
        _logger.warning("%s: %s; for %ds pods ask the Hub for it instead", uri, found.message, _SILENCE_SECONDS)
        return None


def _answer(uri: str, revision: str | None) -> ModelShape | ZerotuneError:
    """What the Hub says, be it waited for or not."""
    try:
        return model_shape(uri, revision)
    except ZerotuneError as error:
        return error


def source_keys(key: Key, resource: Object) -> list[Key]:
    """The jobs whose output a resource starts from."""
    return [Key(origin.kind, key.namespace, origin.name) for origin in origins_of(resource["spec"])]


async def find_model(job: Job, status: JobStatus, store: Store, hub: Hub) -> Source | Awaited:
    """The job's model, or what it waits for.

    Raises:
        InputMissingError: there will be none.
        ConfigurationError: it is not a language model.
    """
    model = job.spec.model
    changed = has_changed(status)
    if origin := model_origin(job):
        if status.model_uri is not None:  # It was there when the job began, and lies there still.
            return Source(status.model_uri, None if changed else status.model)
        return _output_of(origin, job.metadata.namespace, store)
    uri = model.uri
    assert uri is not None, "validation asks for one of the two"
    if status.model is not None and not changed:
        return Source(uri, status.model)
    if uri.startswith("hf://") and model.credentials is None:
        if changed:
            hub.forget(uri, model.revision)
        return Source(uri, await hub.shape(uri, model.revision))
    return Source(uri, None if changed else _known_to_others(job, store))


def find_records(job: Job, status: JobStatus, store: Store) -> dict[str, str] | Awaited:
    """Outputs of the jobs that the data names, by the part of the spec that they are for, or what the job waits for.

    Raises:
        InputMissingError: there will be none.
    """
    uris = dict(status.data_uris)  # They were there when the job began, and lie there still.
    for origin in record_origins(job):
        if origin.part not in uris:
            found = _output_of(origin, job.metadata.namespace, store)
            if isinstance(found, Awaited):
                return found
            uris[origin.part] = found.uri
    return uris


def has_changed(status: JobStatus) -> bool:
    """Whether the last attempt found another model than the one that it was planned for."""
    return bool(status.attempts) and status.attempts[-1].failure_class == ModelChangedError.failure_class


def _known_to_others(job: Job, store: Store) -> ModelShape | None:
    """What the youngest job of the namespace that names the same model knows of it. A path in a pod is no such name: it
    depends on the volumes that the pod has.
    """
    wanted = _name_of(job.spec.model.model_dump(by_alias=True, exclude_none=True))
    if wanted["uri"].startswith("file://"):
        return None
    found = [
        (resource["metadata"]["creationTimestamp"], shape)
        for key, resource in store.resources()
        if key.namespace == job.metadata.namespace and _name_of(resource["spec"]["model"]) == wanted
        if (shape := (resource.get("status") or {}).get("model"))
    ]
    return ModelShape.model_validate(max(found, key=itemgetter(0))[1]) if found else None


def _name_of(model: dict[str, Any]) -> dict[str, Any]:
    return {name: model.get(name) for name in ("uri", "revision", "credentials")}


def _output_of(origin: Origin, namespace: str, store: Store) -> Source | Awaited:
    key = Key(origin.kind, namespace, origin.name)
    reason, what = ("ModelAwaited", "the model") if origin.is_model else ("DataAwaited", origin.part)
    resource = store.resource(key)
    if resource is None:
        return Awaited(reason, f"{key} is not there: create it, or correct {origin.path}")
    status = JobStatus.model_validate(resource.get("status") or {})
    if status.phase == "Failed":
        cause = f": {status.root_cause.message}" if status.root_cause else ""
        raise InputMissingError(f"{key}, whose output is {what}, failed{cause}", "correct that job, then this one")
    if status.phase != "Succeeded" or status.output is None:
        return Awaited(reason, f"waits for {key}, which is {status.phase or 'Pending'}")
    return Source(status.output.uri, _shape_of_output(resource["spec"].get("adapter"), status))


def _shape_of_output(adapter: dict[str, Any] | None, status: JobStatus) -> ModelShape | None:
    if status.model is None or status.model_uri is None:
        return status.model
    return shape_of_output(Adapter.model_validate(adapter) if adapter else None, status.model, status.model_uri)
