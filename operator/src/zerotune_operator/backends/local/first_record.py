"""The first record of a file of this machine, where it shows that no job can read the others. A line is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zerotune_operator.api.jobs import FineTuneJob, FineTuneJobSpec, Job
from zerotune_trainer.config.data import Records
from zerotune_trainer.config.methods import METHODS
from zerotune_trainer.errors import DataError, InputMissingError, ZerotuneError

_MOST_BYTES = 1 << 20
"""A longer line is left to the trainer."""


def first_record_problem(job: Job, place: str, records: Records, path: Path) -> ZerotuneError | None:
    """Why a job cannot use the records of a file; None where it may, or the first line does not show it.

    Args:
        job: The job.
        place: Where its spec names the file: `data.train`.
        records: What stands there.
        path: The file.
    """
    line = _first_line(path)
    if _format(records, path) == "jsonl":
        if line.startswith("["):
            return DataError(
                f"{place}.uris: {path} holds a JSON array, and a jsonl file has one object a line",
                "write it so, for example with `jq -c '.[]'`",
            )
        columns = _columns_of_json(line)
    else:
        columns = next(csv.reader([line]), []) if _format(records, path) == "csv" and line else []
    if not columns or not isinstance(job, FineTuneJob) or place not in ("data.train", "data.validation"):
        return None
    return _preference_problem(job.spec, f"{place}.uris: {path}:1", columns)


def _first_line(path: Path) -> str:
    """Empty where there is none, or it is no text."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return next((text for text in iter(lambda: lines.readline(_MOST_BYTES), "") if text.strip()), "").strip()
    except (OSError, ValueError):
        return ""


def _format(records: Records, path: Path) -> str:
    return path.suffix.removeprefix(".") if records.format == "auto" else records.format


def _columns_of_json(line: str) -> list[str]:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return list(values) if isinstance(values, dict) else []


def _preference_problem(spec: FineTuneJobSpec, where: str, columns: list[str]) -> ZerotuneError | None:
    """Why a record does not say what is preferred. What a plug-in makes of it is not known."""
    kind = METHODS[spec.method].preference
    if kind is None or (spec.plugin is not None and spec.plugin.processing is not None):
        return None
    wanted = list(_wanted(spec, judged=kind == "judged"))
    if any(set(names) <= set(columns) for names in wanted):
        return None
    listed = " or ".join(" and ".join(map(repr, names)) for names in wanted)
    return InputMissingError(
        f"{where}: method {spec.method} reads the columns {listed}, and the record has {', '.join(map(repr, columns))}",
        "name the columns in data.columns, or add what is missing",
    )


def _wanted(spec: FineTuneJobSpec, *, judged: bool) -> Iterator[tuple[str, ...]]:
    """The columns of which a record has to have all, each in one of the ways there are."""
    named = spec.data.columns
    if judged and named.chosen is None:
        yield named.completion or "completion", named.label or "label"
    if named.completion is None:
        yield named.chosen or "chosen", named.rejected or "rejected"
