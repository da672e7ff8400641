"""What a node reports, sanitized where it enters: at `/progress`, in its termination message, on S3. Pure.

A pod may run anything, so nothing in a report is trusted: numbers are finite and fit an API object, texts are short and
without control characters, classes of failures are those that zerotune has. What is left can neither break a reconcile
nor be rejected by the API server as part of a status. Nor does a pod report where a result lies: that is the job's
`output.uri`.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import TERMINATION_MESSAGE_LIMIT, Failure, InternalError, error_classes
from zerotune_trainer.printable import CONTROLS
from zerotune_trainer.progress import Completion, NodeProgress, NodeReport

TEXT_LIMIT = TERMINATION_MESSAGE_LIMIT
"""Characters of a text; a condition of a status takes 32,768, an Event 1,024."""

_LARGEST_INTEGER = 2**53
"""What JSON keeps exactly (RFC 8259); the API server takes up to 2^63."""
_LARGEST_FLOAT = 1e15
_MOST_LAYERS, _MOST_PARAMETERS = 100_000, 10**15
_MOST_HOSTS, _LONGEST_NAME = 4096, 253
_LONGEST_ETA_SECONDS = 10 * 365 * 24 * 3600
_MAY_BE_NEGATIVE = frozenset({"loss", "evalLoss", "exitCode", "generation"})
_CLASSES = frozenset(
    name for name, error in error_classes().items() if error.__module__.partition(".")[0] == "zerotune_trainer"
)
"""Those of the trainer: what the API server reports, such as QuotaExceeded, is not for a pod to claim."""
_CONTROLS = dict.fromkeys(CONTROLS)
"""They would reach the terminal of whoever reads the status. Lines of a library's message stay lines."""


class Ending(BaseModel):
    """A termination message of an end that is no failure."""

    model_config = ConfigDict(extra="forbid")

    completion: Completion | None = None
    shape: ModelShape | None = None


def read_progress(body: bytes) -> NodeProgress | None:
    """The answer of a launcher at `/progress`; None where it is none."""
    return _progress(_read(body))


def read_report(body: bytes) -> NodeReport | None:
    """What a node wrote to a store; None where it is no report."""
    report = _read(body)
    if not isinstance(report, dict):
        return None
    progress = _progress(report.pop("progress", None))
    try:
        return NodeReport.model_validate(report).model_copy(update={"progress": progress})
    except ValidationError:
        return None


def read_failure(message: str) -> Failure | None:
    """The failure in a termination message; None where it has none, or was cut off with its launcher."""
    try:
        return Failure.model_validate(_failure(_read(message)))
    except ValidationError:
        return None


def read_ending(message: str) -> Ending:
    """A termination message of a launcher that ended well; an empty one where it is something else."""
    try:
        ending = Ending.model_validate(_read(message))
    except ValidationError:
        return Ending()
    return ending if ending.shape is None or _is_plausible(ending.shape) else Ending()


def text(value: str) -> str:
    """A text of a pod or of its node, in bounds; a long one keeps its beginning and its end."""
    clean = value.translate(_CONTROLS)
    half = TEXT_LIMIT // 2
    return clean if len(clean) <= TEXT_LIMIT else f"{clean[: half - 5]} ... {clean[-half:]}"


def _read(report: str | bytes) -> Any:
    """A report as JSON, its values in bounds; None where it is no JSON, or nested deeper than the parser goes."""
    try:
        return _bounded(from_json(report))
    except ValueError:
        return None


def _bounded(value: Any, name: str = "") -> Any:
    """A value without what no status can hold. An absurd number counts as not given."""
    match value:
        case dict():
            # Metrics of the user's have names of their own.
            own = name == "generation"
            return {str(key): _bounded(part, name if own else str(key)) for key, part in value.items()}
        case list():
            return [_bounded(part) for part in value]
        case str():
            return text(value)
        case bool() | None:
            return value
        case int() | float():
            return value if _is_plausible_number(value, name) else None
    return None


def _is_plausible_number(value: float, name: str) -> bool:
    largest = _LONGEST_ETA_SECONDS if name == "etaSeconds" else _LARGEST_FLOAT
    if isinstance(value, int) and name != "etaSeconds":
        largest = _LARGEST_INTEGER
    return abs(value) <= largest and (value >= 0 or name in _MAY_BE_NEGATIVE)


def _progress(report: Any) -> NodeProgress | None:
    if isinstance(report, dict):
        for name in ("failure", "waitingFor"):
            report[name] = _failure(report.get(name))
    try:
        progress = NodeProgress.model_validate(report)
    except ValidationError:
        return None
    return progress if _is_plausible_topology(progress) else progress.model_copy(update={"topology": None})


def _failure(report: Any) -> Any:
    """A failure with a class and an exit code that zerotune has: others would name conditions, or count as success."""
    if not isinstance(report, dict):
        return None
    code = report.get("exitCode")
    name = report.get("class")
    valid = isinstance(code, int) and 1 <= code <= 255
    return report | {
        "class": name if isinstance(name, str) and name in _CLASSES else InternalError.failure_class,
        "exitCode": code if valid else InternalError.exit_code,
    }


def _is_plausible_topology(progress: NodeProgress) -> bool:
    """Whether the ranks of each host follow each other, as a status that lists hosts has room for them."""
    entries = sorted(progress.topology or (), key=lambda entry: entry.rank)
    groups = [host for host, _ in groupby(entry.host for entry in entries)]
    names = [name for entry in entries for name in (entry.host, entry.hostname, entry.device)]
    return len(groups) == len(set(groups)) <= _MOST_HOSTS and all(len(name) <= _LONGEST_NAME for name in names)


def _is_plausible(shape: ModelShape) -> bool:
    """Whether planning can compute with a shape: no size is zero, or larger than any model has."""
    sizes = (shape.parameters, shape.largest_layer, shape.layers, shape.hidden_size, shape.heads, shape.vocab_size)
    optional = [size for size in (shape.query_size, shape.mlp_size, shape.context) if size is not None]
    in_bounds = all(0 < size <= _MOST_PARAMETERS for size in (*sizes, shape.kv_size, *optional))
    return in_bounds and shape.layers <= _MOST_LAYERS and 0 <= shape.experts_per_token <= _MOST_LAYERS
