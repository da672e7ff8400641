"""The other jobs of the namespace that a job starts from: their outputs are its model or its records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple, TypeVar

from zerotune_operator.api.jobs import Job
from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ConfigurationError

_FIELDS = {"fromFineTuneJob": "FineTuneJob", "fromInferenceJob": "InferenceJob"}
"""The fields that name another job, with its kind."""
_MODEL = "model"
_PARTS = (
    _MODEL,
    "data",
    "data.train",
    "data.validation",
    "data.replay",
    "evaluation.control",
    "evaluation.generation.data",
)
"""The parts of a spec that have such a field."""

RING_REMEDY = "have one of them start from a uri, or from a job that is not among them"

_SettingsT = TypeVar("_SettingsT", bound=Settings)


class Origin(NamedTuple):
    """Another job whose output is a part of a job's input."""

    part: str
    """Path of that part below `spec`: `model`, `data.train`."""
    field: str
    """What names the job there."""
    kind: str
    name: str

    @property
    def is_model(self) -> bool:
        """Whether the output is the model; else it is records."""
        return self.part == _MODEL

    @property
    def path(self) -> str:
        """The field below `spec`: `data.train.fromInferenceJob`."""
        return f"{self.part}.{self.field}"

    def __str__(self) -> str:
        """`data.train.fromInferenceJob: 'teacher'`."""
        return f"{self.path}: {self.name!r}"


def origins_of(spec: Mapping[str, Any]) -> list[Origin]:
    """The jobs that a spec, as files have it, names."""
    return [
        Origin(part, field, kind, name)
        for part in _PARTS
        for field, kind in _FIELDS.items()
        if (name := _part(spec, part).get(field))
    ]


def model_origin(job: Job) -> Origin | None:
    """The job whose output is the model of `job`.

    Raises:
        ConfigurationError: it is `job` itself.
    """
    return next((origin for origin in origins(job) if origin.is_model), None)


def record_origins(job: Job) -> list[Origin]:
    """The jobs whose output is records of `job`.

    Raises:
        ConfigurationError: `job` itself is one.
    """
    return [origin for origin in origins(job) if not origin.is_model]


def origins(job: Job) -> list[Origin]:
    """The jobs that `job` starts from.

    Raises:
        ConfigurationError: it is one of them itself.
    """
    found = origins_of(job.spec.model_dump(by_alias=True))
    for origin in found:
        if (origin.kind, origin.name) == (job.kind, job.metadata.name):
            raise ConfigurationError(f"{origin} is this job itself, which would wait for its own end", "name another")
    return found


def require_no_ring(jobs: Iterable[Job]) -> None:
    """See that no jobs wait for each other's outputs.

    Raises:
        ConfigurationError: some do.
    """
    graph = {
        (job.kind, job.metadata.namespace, job.metadata.name): [
            (origin.kind, job.metadata.namespace, origin.name) for origin in origins(job)
        ]
        for job in jobs
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        ring = " -> ".join(f"{kind} {name}" for kind, _, name in reversed(error.args[1]))
        raise ConfigurationError(f"each of these jobs waits for the next: {ring}", RING_REMEDY) from error


def starting_from(job: Job, outputs: Mapping[str, str]) -> Job:
    """The job with the outputs themselves in the place of the jobs that write them.

    Args:
        job: The job.
        outputs: URI of the output, by the part of the spec that it is for.
    """
    spec = job.spec
    for part, uri in outputs.items():
        model, records = {"uri": uri, "from_fine_tune_job": None}, {"uris": [uri], "from_inference_job": None}
        spec = _replaced(spec, part.split("."), model if part == _MODEL else records)
    return job.model_copy(update={"spec": spec})


def _part(spec: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    for name in part.split("."):
        spec = spec.get(name) or {}
    return spec


def _replaced(settings: _SettingsT, path: list[str], update: dict[str, Any]) -> _SettingsT:
    """A copy of settings with fields of the part at `path` replaced."""
    if not path:
        return settings.model_copy(update=update)
    name, *below = path
    return settings.model_copy(update={name: _replaced(getattr(settings, name), below, update)})
