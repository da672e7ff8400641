"""The URIs of a job's spec. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from zerotune_operator.api.jobs import FineTuneJob, FineTuneJobSpec, Job
from zerotune_trainer.config.training import all_records


def uris_of(job: Job) -> Iterator[tuple[str, str, bool]]:
    """Every URI of the spec: its field, itself, and whether it is written to."""
    spec = job.spec
    if spec.model.uri is not None:
        yield "model.uri", spec.model.uri, False
    if isinstance(job, FineTuneJob):
        yield from _uris_of_training(job.spec)
    else:
        yield from (("data.uris", uri, False) for uri in job.spec.data.uris)
    if spec.plugin is not None and spec.plugin.file is not None:
        yield "plugin.file", spec.plugin.file, False
    if spec.output.uri is not None:
        yield "output.uri", spec.output.uri, True


def _uris_of_training(spec: FineTuneJobSpec) -> Iterator[tuple[str, str, bool]]:
    """Those that a FineTuneJob alone has."""
    records = all_records(spec.data, spec.evaluation)
    yield from ((f"{place}.uris", uri, False) for place, part in records.items() for uri in part.uris)
    if spec.preference is not None and spec.preference.reference_model is not None:
        yield "preference.referenceModel.uri", spec.preference.reference_model.uri, False
    if spec.script is not None:
        yield "script.file", spec.script.file, False
    if spec.checkpoint.uri is not None:
        yield "checkpoint.uri", spec.checkpoint.uri, True
