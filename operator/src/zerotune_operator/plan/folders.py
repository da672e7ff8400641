"""No folder of a job lies in another one of it: what a job writes would be read as its data, or overwritten.

Folders are compared as the ranks read them, name by name: `s3://bbb/p`, `s3://bbb//p/` and `s3://bbb/x/../p` are one. A
URI of the data may have wildcards: `*`, `?` and `[...]` within a name, `**` for any number of names. What a wildcard
finds may be a folder, and a folder stands for every file in it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import product
from typing import NamedTuple

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_trainer.config.training import all_records
from zerotune_trainer.errors import ConfigurationError


class _Folder(NamedTuple):
    """A folder of a job, or a pattern of files."""

    field: str
    uri: str
    """As the spec has it."""
    names: tuple[str, ...]
    """The store, and the names that lead there."""


def check_folders(job: Job, layout: RuntimeLayout) -> None:
    """See that data, output, checkpoints and the model lie apart.

    Raises:
        ConfigurationError: two of them do not.
    """
    written = list(_written(job, layout))
    for data, folder in product(_data(job, layout), written):
        if _overlap(data.names, folder.names):
            raise ConfigurationError(
                f"{data.field} {data.uri!r} and {folder.field} {folder.uri!r} overlap: what the job writes would be "
                "read as its data",
                f"let {folder.field} name a folder that neither lies in the data nor holds any of it",
            )
    for folder, (what, names) in product(written, _models(job, layout)):
        if relation := _relation(folder.names, names):
            raise ConfigurationError(
                f"{folder.field} {folder.uri!r} {relation} {what}'s own folder", f"let {folder.field} name another one"
            )
    output, *checkpoints = written
    for folder in checkpoints:
        if output.names[: len(folder.names)] == folder.names:
            raise ConfigurationError(
                f"output.uri {output.uri!r} lies in checkpoint.uri {folder.uri!r}, where old checkpoints are deleted",
                "name two folders, or leave checkpoint.uri out: checkpoints then go to `checkpoints` in the output",
            )


def _relation(folder: tuple[str, ...], model: tuple[str, ...]) -> str:
    """How a folder that is written lies to a model's; empty where they are apart."""
    if folder == model:
        return "is"
    if folder[: len(model)] == model:
        return "lies in"
    return "holds" if model[: len(folder)] == folder else ""


def _data(job: Job, layout: RuntimeLayout) -> Iterator[_Folder]:
    if isinstance(job, FineTuneJob):
        parts = all_records(job.spec.data, job.spec.evaluation)
        named = [(f"{place}.uris", uri) for place, part in parts.items() for uri in part.uris]
    else:
        named = [("data.uris", uri) for uri in job.spec.data.uris]
    return (_Folder(field, uri, _names(layout.resolve(uri))) for field, uri in named)


def _models(job: Job, layout: RuntimeLayout) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The folders of models that are read, each with what it is."""
    yield "the model", _names(layout.model_uri)
    preference = job.spec.preference if isinstance(job, FineTuneJob) else None
    if preference and preference.reference_model:
        yield "the reference", _names(layout.resolve(preference.reference_model.uri))


def _written(job: Job, layout: RuntimeLayout) -> Iterator[_Folder]:
    """The output, then the checkpoints where they have a folder of their own."""
    yield _Folder("output.uri", job.spec.output.uri or layout.output_uri, _names(layout.output_uri))
    if isinstance(job, FineTuneJob) and (uri := job.spec.checkpoint.uri) is not None:
        yield _Folder("checkpoint.uri", uri, _names(layout.checkpoint_uri))


def _names(uri: str) -> tuple[str, ...]:
    scheme, _, path = uri.partition("://")
    return (scheme, *(name for name in posixpath.normpath(f"/{path}").split("/") if name))


def _overlap(data: tuple[str, ...], folder: tuple[str, ...]) -> bool:
    """Whether data, which may have wildcards, lies in a folder or holds a part of it.

    `reached` is how many names of the data the names of the folder so far may stand for: several, as `**` may stand for
    none or many.
    """
    reached = _past_any(data, {0})
    for name in folder:
        if len(data) in reached:
            return True  # The data is a folder above.
        here = {index for index in reached if data[index] == "**"}
        reached = _past_any(data, here | {index + 1 for index in reached if _stands_for(data[index], name)})
    return bool(reached)


def _past_any(data: tuple[str, ...], reached: set[int]) -> set[int]:
    """With what is reached where `**` stands for no name."""
    for index in range(len(data)):
        if index in reached and data[index] == "**":
            reached.add(index + 1)
    return reached


def _stands_for(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)
