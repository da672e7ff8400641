"""What a job reads on this machine is there: its records, and the Python files of its user."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from glob import iglob
from pathlib import Path

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.backends.local.first_record import first_record_problem
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.layout import checkpoint_uri, output_uri, resolve
from zerotune_operator.backends.local.python_file import python_problem
from zerotune_operator.backends.local.saved_split import split_problem
from zerotune_operator.backends.python_source import Function, functions_of
from zerotune_trainer.config.data import Records, no_match
from zerotune_trainer.config.training import all_records
from zerotune_trainer.errors import DataError, InputMissingError, ZerotuneError


def check_inputs(job: Job, planned: Collection[str] = ()) -> None:
    """See that the records and the code of a job that are to be on this machine are there. Whether its model is, what
    reads the model's shape says.

    Args:
        job: The job, as its spec has it.
        planned: URIs of the outputs of jobs that run before it: what lies there is yet to be written.

    Raises:
        InputMissingError: a file is not there, or does not define what the job uses of it.
        DataError: a file of records holds none, as its first line shows.
        ConfigurationError: a file is not what the job takes it for.
    """
    problems = [*_records_problems(job, planned), *_code_problems(job), *_checkpoint_problems(job)]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        messages = "; ".join(problem.message for problem in problems)
        raise type(problems[0])(messages, "; ".join(dict.fromkeys(problem.hint for problem in problems)))


def _records_problems(job: Job, planned: Collection[str]) -> Iterator[ZerotuneError]:
    yield from _empty_problems(job)
    outputs = [f"{_path(uri)}/" for uri in planned if uri.startswith("file://")]
    for place, records, uri in _record_uris(job):
        path = _path(uri) if uri.startswith("file://") else ""
        if path and not f"{path}/".startswith(tuple(outputs)) and (problem := _problem(path)):
            yield InputMissingError(
                f"{place}.uris: {path} {problem}", "give a file, a folder, or a pattern such as file:///data/*.jsonl"
            )
        elif path and (unread := split_problem(place, records, Path(path))):
            yield unread
        elif path and os.path.isfile(path) and (found := first_record_problem(job, place, records, Path(path))):  # noqa: PTH113
            yield found


def _empty_problems(job: Job) -> Iterator[ZerotuneError]:
    """Records are in none of the files of a part, which are all named and have no byte."""
    for place, part in _record_parts(job).items():
        paths = [Path(_path(uri)) for uri in part.uris if uri.startswith("file://")]
        if paths and len(paths) == len(part.uris) and all(_is_empty(path) for path in paths):
            yield DataError(f"{place}.uris: {paths[0]} is empty", "give files that hold records")


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _record_uris(job: Job) -> Iterator[tuple[str, Records, str]]:
    return ((place, part, uri) for place, part in _record_parts(job).items() for uri in part.uris)


def _record_parts(job: Job) -> Mapping[str, Records]:
    return all_records(job.spec.data, job.spec.evaluation) if isinstance(job, FineTuneJob) else {"data": job.spec.data}


def _checkpoint_problems(job: Job) -> Iterator[ZerotuneError]:
    """The checkpoint that a job is to go on from is there, where its folder is on this machine."""
    if not isinstance(job, FineTuneJob) or job.spec.checkpoint.resume in ("auto", "never"):
        return
    home, resume = Home.of_environment(), job.spec.checkpoint.resume
    uri = checkpoint_uri(job, output_uri(job, home.job(job.kind, job.metadata.name)))
    if not uri.startswith("file://"):
        return
    there = sorted(path.parent.name for path in Path(_path(uri)).glob("checkpoint-*/manifest.json"))
    if resume not in there and (resume.startswith("checkpoint-") or not there):
        yield InputMissingError(
            f"checkpoint.resume: {_path(uri)} has no checkpoint that {resume!r} stands for",
            f"there are: {', '.join(there) or 'none'}; `resume: auto` begins at the beginning where there is none",
        )


def _path(uri: str) -> str:
    return os.path.normpath(resolve(uri).removeprefix("file://"))


def _problem(path: str) -> str:
    """Why there are no records to be read at a path, which may be a pattern; empty where there may be."""
    try:
        if os.path.exists(path):  # noqa: PTH110 - False where a path cannot be one
            return "" if os.access(path, os.R_OK) else "cannot be read: Permission denied"
        if next(iglob(path, recursive=True), None) is not None:  # noqa: PTH207 - it may begin at /
            return ""
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    return "is not there" if not set("*?[") & set(path) else no_match(path)


def _code_problems(job: Job) -> Iterator[ZerotuneError]:
    for field, uri, names in _code(job):
        problem = python_problem(field, Path(_path(uri)), names) if uri.startswith("file://") else None
        if problem is not None:
            yield problem


def _code(job: Job) -> Iterator[tuple[str, str, list[Function]]]:
    """The Python files of a job: the field, its URI, and what is used of it."""
    if job.spec.plugin is not None and job.spec.plugin.file is not None:
        yield "plugin.file", job.spec.plugin.file, functions_of(job)
    if isinstance(job, FineTuneJob) and job.spec.script is not None:
        yield "script.file", job.spec.script.file, []
