"""Manifests in, jobs out; or everything that is wrong with them, at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zerotune_operator.api.fields import without_empty
from zerotune_operator.api.jobs import GROUP, KINDS, VERSION, FineTuneJob, InferenceJob, Job
from zerotune_operator.api.manifest_file import read_manifest
from zerotune_operator.api.manifest_yaml import Document, Problem, read_documents
from zerotune_operator.api.manifest_yaml import Path as Place
from zerotune_operator.api.problems import find_changes, find_problems, validate
from zerotune_trainer.config.base import is_bounded
from zerotune_trainer.errors import ConfigurationError

_LISTS = ("List", *(f"{kind}List" for kind in KINDS))
_NARROW = "give a smaller one, or quote it where a text is meant"
_WRITE_ITEMS = "write a list of jobs, each of which begins with a dash"

_MOST_LEVELS, _MOST_VALUES = 48, 30_000
"""Of a field of a spec. Objects of any shape in it have narrower limits (`config.base.JsonObject`)."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Texts have tabs and lines."""


class InvalidManifestError(ConfigurationError):
    """A manifest that breaks the schema or one of its rules; `problems` says where and how."""

    def __init__(self, message: str, hint: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message, hint)
        self.problems = problems


def load_jobs(path: Path) -> list[Job]:
    """The jobs of a YAML or JSON file, in its order; documents of other groups (a Secret, a volume) are left alone.

    Raises:
        InputMissingError, ConfigurationError: as `read_manifest`.
        InvalidManifestError: it holds no job, or anything is wrong with one.
    """
    return [job for job in load_documents(path) if isinstance(job, FineTuneJob | InferenceJob)]


def load_documents(path: Path) -> list[Job | dict[str, Any]]:
    """Like `load_jobs`, with the documents of other groups as they are.

    Raises:
        InputMissingError, ConfigurationError: as `read_manifest`.
        InvalidManifestError: it holds no job, or anything is wrong with one.
    """
    documents = [item for document in read_documents(read_manifest(path)) for item in _items(document)]
    problems = [problem for document in documents for problem in _problems(document)] or _given_twice(documents)
    if problems:
        raise _invalid(str(path), problems)
    if not any(_is_ours(document.value) for document in documents):
        raise InvalidManifestError(
            f"{path} holds no FineTuneJob and no InferenceJob", "see crds/examples for one of each kind"
        )
    return [_job(document.value) if _is_ours(document.value) else document.value for document in documents]


def parse_job(manifest: dict[str, Any]) -> Job:
    """The job that a resource describes, as the API server hands it out; `status` is not read.

    Raises:
        InvalidManifestError: anything is wrong with it.
    """
    _require_bounded(manifest)
    problems = _schema_problems(manifest)
    if problems:
        raise _invalid(_title(manifest), problems)
    return _job(manifest)


def read_job(resource: dict[str, Any]) -> Job:
    """The job of a resource that the API server has accepted: it has evaluated the rules, which takes 25 ms here.

    Raises:
        InvalidManifestError: it holds control characters, or does not fit the schema: the cluster's CRDs are of another
            version.
    """
    _require_bounded(resource)
    if _control_characters(resource):
        return parse_job(resource)
    try:
        return _job(resource)
    except ValidationError:
        return parse_job(resource)


def check_update(old: Job, new: Job) -> None:
    """See that `old` may become `new`.

    Raises:
        InvalidManifestError: a field changes that cannot change on a job that exists.
    """
    require_none(find_changes(type(new.spec), new.spec, old.spec, ("spec",)), new)


def require_none(problems: Iterable[Problem], job: Job) -> None:
    """See that nothing is wrong with a job.

    Raises:
        InvalidManifestError: something is; it lists all of it.
    """
    if found := list(problems):
        raise _invalid(f"{job.kind} {job.metadata.name}", found)


def _items(document: Document) -> Iterator[Document]:
    """The items of a List (`kubectl get -o yaml` writes one), as documents of their own; else the document itself."""
    value = document.value
    if document.problems or not isinstance(value, dict) or value.get("kind") not in _LISTS:
        yield document
        return
    items = value.get("items")
    if not isinstance(items, list):
        found = "is missing" if items is None else f"is {items!r:.80}"
        yield Document(problems=[_placed(document, Problem(("items",), f"{found}: {_WRITE_ITEMS}"))])
        return
    for index, item in enumerate(items):
        place: Place = ("items", index)
        lines = {path[2:]: line for path, line in document.lines.items() if path[:2] == place}
        yield from _items(Document(_typed(item, value), lines))


def _typed(item: Any, listed: dict[str, Any]) -> Any:
    """An item with the kind that a list of one kind says for all of them."""
    kind = listed["kind"].removesuffix("List")
    version = {"apiVersion": listed.get("apiVersion"), "kind": kind}
    return version | item if kind in KINDS and isinstance(item, dict) else item


def _require_bounded(manifest: dict[str, Any]) -> None:
    """See that what follows can walk a manifest: the API server accepts 10,000 levels and 1.5 MiB.

    Raises:
        InvalidManifestError: it is nested too deep, or holds too much.
    """
    spec = manifest.get("spec")
    parts = spec.items() if isinstance(spec, dict) else ()
    too_large = [str(name) for name, value in parts if not is_bounded(value, _MOST_LEVELS, _MOST_VALUES)]
    if too_large:
        limit = f"is nested more than {_MOST_LEVELS} levels deep, or holds more than {_MOST_VALUES:,} values"
        raise _invalid(_title(manifest), [Problem(("spec", name), f"{limit}: make it smaller") for name in too_large])


def _title(manifest: dict[str, Any]) -> str:
    return f"{manifest.get('kind')} {(manifest.get('metadata') or {}).get('name')}"


def _is_ours(value: Any) -> bool:
    """Whether a document means to be one of our kinds, be it misspelt."""
    if not isinstance(value, dict):
        return True
    version, kind = str(value.get("apiVersion", "")), value.get("kind")
    return not version or not kind or kind in KINDS or version.partition("/")[0] == GROUP


def _problems(document: Document) -> list[Problem]:
    found = document.problems or (_schema_problems(document.value) if _is_ours(document.value) else [])
    placed = [_placed(document, problem) for problem in found]
    return sorted(placed, key=lambda problem: problem.line or 0)


def _given_twice(documents: list[Document]) -> list[Problem]:
    """The jobs that have kind, namespace and name of one before them, in whose place they would be applied."""
    first: dict[tuple[str, str, str], int | None] = {}
    problems, place = [], ("metadata", "name")
    for document in (each for each in documents if _is_ours(each.value)):
        job, line = _job(document.value), _line(document, Problem(place, ""))
        key = (job.kind, job.metadata.namespace, job.metadata.name)
        if key in first:
            message = f"is {key[2]!r}, and so is that of a {job.kind} in line {first[key]}: give one of them another"
            problems.append(Problem(place, message, line))
        first.setdefault(key, line)
    return problems


def _placed(document: Document, problem: Problem) -> Problem:
    return problem if problem.line else replace(problem, line=_line(document, problem))


def _line(document: Document, problem: Problem) -> int | None:
    """The line of the field, or of the nearest part around it that is there."""
    for length in range(len(problem.path), -1, -1):
        if problem.path[:length] in document.lines:
            return document.lines[problem.path[:length]]
    return None


def _schema_problems(value: Any) -> list[Problem]:
    if not isinstance(value, dict):
        return [
            Problem((), f"a manifest is a group of fields (apiVersion, kind, metadata, spec), this is {value!r:.80}")
        ]
    kind = value.get("kind")
    if kind not in KINDS:
        close = get_close_matches(str(kind), KINDS, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"{GROUP}/{VERSION} has {' and '.join(KINDS)}"
        return [Problem(("kind",), f"is missing: {remedy}" if kind is None else f"is {kind!r}: {remedy}")]
    wide = [path for path, leaf in _leaves(value) if isinstance(leaf, int) and not -(2**63) <= leaf < 2**63]
    too_wide = [Problem(path, f"is a number of more than 64 bits: {_NARROW}") for path in wide]
    unusable = too_wide or _control_characters(value)
    return unusable or find_problems(KINDS[kind], _desired(value))


def _control_characters(manifest: dict[str, Any]) -> list[Problem]:
    """Texts of a spec with characters that no argument, path or variable can hold, or that a terminal obeys."""
    texts = [(path, leaf) for path, leaf in _leaves(manifest.get("spec"), ("spec",)) if isinstance(leaf, str)]
    return [
        Problem(path, f"is {leaf!a:.80}: leave out the control character {found[0]!a}")
        for path, leaf in texts
        if (found := _CONTROL.search(leaf))
    ]


def _leaves(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """The values of a manifest that are no group and no list, and the names in groups, with their place."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield path, name
            yield from _leaves(part, (*path, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(part, (*path, index))
    else:
        yield path, value


def _desired(value: dict[str, Any]) -> Any:
    return without_empty(KINDS[value["kind"]], {name: part for name, part in value.items() if name != "status"})


def _job(value: dict[str, Any]) -> Job:
    job = validate(KINDS[value["kind"]], _desired(value))
    assert isinstance(job, FineTuneJob | InferenceJob)
    return job


def _invalid(where: str, problems: list[Problem]) -> InvalidManifestError:
    lines = [f"{where}:{problem.line}: {problem}" if problem.line else f"{where}: {problem}" for problem in problems]
    return InvalidManifestError("\n".join(lines), "", tuple(problems))
