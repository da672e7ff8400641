"""`training.arguments`: any further field of transformers' TrainingArguments, by its own name. Torch-free.

The names and types are data, `training_arguments.json`, made by `zerotune_trainer.training.argument_table` from the
pinned transformers. What has a field of its own in the spec is rejected here, so that nothing is set twice.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from zerotune_trainer.config.argument_places import FORMER, OWN_FIELD, REMOVED
from zerotune_trainer.config.packages import REPORTERS, TRACKERS


class Argument(BaseModel):
    """A field of TrainingArguments."""

    model_config = ConfigDict(extra="forbid")

    types: list[str]
    """JSON types it takes; `any` where JSON has no word for it."""
    default: Any
    choices: list[str] | None


_OURS = {
    "auto_find_batch_size": "the plan fixes the batch",
    "average_tokens_across_devices": "every token of a step weighs the same on every rank",
    "enable_jit_checkpoint": "zerotune saves when it is stopped",
    "accelerator_config": "the ranks take the rows as the plan divides them",
    "dataloader_drop_last": "every row is trained on",
    "include_num_input_tokens_seen": "the tokens of all ranks are counted always, padding excluded",
    "logging_nan_inf_filter": "a loss that is not finite ends the job",
    "ignore_data_skip": "resuming goes on with the rows that were not seen yet",
    "remove_unused_columns": "rows hold what the model takes",
    "restore_callback_states_from_checkpoint": "zerotune restores what it needs",
    "save_on_each_node": "checkpoints go to one folder",
    "save_only_model": "a checkpoint without optimizer state cannot be resumed",
}
"""Arguments that zerotune sets itself, and why."""

_EVALUATION = "an evaluation is made of losses and counts of tokens, and keeps no predictions"
_HUB = "nothing is pushed to the Hub: the result is in output.uri, from where `hf upload` takes it"
_DDP = "DeepSpeed takes the place of DistributedDataParallel"
_WITHOUT_EFFECT = {
    **dict.fromkeys(
        (
            "prediction_loss_only",
            "eval_do_concat_batches",
            "eval_use_gather_object",
            "eval_accumulation_steps",
            "include_for_metrics",
            "batch_eval_metrics",
        ),
        _EVALUATION,
    ),
    **dict.fromkeys(
        (
            "push_to_hub",
            "hub_private_repo",
            "hub_model_id",
            "hub_strategy",
            "hub_always_push",
            "hub_revision",
        ),
        _HUB,
    ),
    **dict.fromkeys(("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_static_graph"), _DDP),
    "label_names": "rows hold their labels in a column of that name",
    "length_column_name": "the lengths of rows are those of their tokens",
}
"""Arguments that would be read by nothing, and why."""

_REJECTED = _OURS | _WITHOUT_EFFECT

BOUNDS: dict[str, tuple[float, float | None]] = {
    "data_seed": (0, 2**32 - 1),
    "dataloader_num_workers": (0, 256),
    "dataloader_prefetch_factor": (1, 1024),
    "eval_delay": (0, None),
    "label_smoothing_factor": (0, 1),
    "neftune_noise_alpha": (0, None),
    "torch_empty_cache_steps": (1, None),
}
"""The least and the greatest value of arguments that transformers takes unchecked."""


_PYTHON: dict[str, type | tuple[type, ...]] = {
    "integer": int,
    "number": (int, float),
    "string": str,
    "object": dict,
    "array": list,
}


@cache
def known() -> dict[str, Argument]:
    """All fields of TrainingArguments by name."""
    text = files("zerotune_trainer.config").joinpath("training_arguments.json").read_text()
    return {name: Argument.model_validate(field) for name, field in json.loads(text)["fields"].items()}


def settable() -> dict[str, Argument]:
    """Those that `training.arguments` may hold."""
    return {name: argument for name, argument in known().items() if name not in OWN_FIELD and name not in _REJECTED}


def check_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return `arguments` if TrainingArguments takes each of them and none has a field of its own in the spec.

    Raises:
        PydanticCustomError: of type `training_arguments`; its context `complaints` has one for each bad name.
    """
    complaints = {name: text for name, value in arguments.items() if (text := _complaint(name, value))}
    if complaints:
        text = "; ".join(f"{name} {complaint}" for name, complaint in complaints.items())
        raise PydanticCustomError("training_arguments", "{text}", {"text": text, "complaints": complaints})
    return arguments


def _complaint(name: str, value: Any) -> str | None:
    if name in _REJECTED:
        return f"cannot be set, {_REJECTED[name]}: leave it out"
    if name in OWN_FIELD:
        return f"has its own place: use {OWN_FIELD[name]}"
    if name not in known():
        return f"is not a field of transformers' TrainingArguments: {_suggestion(name)}"
    further = {"report_to": _reporter_complaint}.get(name, lambda given: _bound_complaint(name, given))
    return _value_complaint(known()[name], value) or further(value)


def place_of(name: str) -> str | None:
    """Where a spec has what TrainingArguments calls `name`; None where it is no field of it."""
    if name in known():
        return OWN_FIELD.get(name, f"training.arguments.{name}")
    return FORMER.get(name)


def _suggestion(name: str) -> str:
    if name in REMOVED:
        return "transformers has it no more, leave it out"
    if name in FORMER:
        return f"use {FORMER[name]}"
    close = get_close_matches(name, known(), n=1)
    return f"did you mean {OWN_FIELD.get(close[0], close[0])}?" if close else "leave it out"


def _value_complaint(argument: Argument, value: Any) -> str | None:
    if value is None or "any" in argument.types:
        return None
    if not any(_is_of(value, kind) for kind in argument.types):
        return f"is {value!r}, must be of type {' or '.join(argument.types)}"
    if argument.choices and value not in argument.choices:
        close = get_close_matches(str(value), argument.choices, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"use one of {', '.join(argument.choices)}"
        return f"is {value!r}, which transformers does not have: {remedy}"
    return None


def _bound_complaint(name: str, value: Any) -> str | None:
    least, most = BOUNDS.get(name, (None, None))
    if value is None or least is None:
        return None
    if value < least:
        return f"is {value!r}, must be at least {least}"
    return f"is {value!r}, must be at most {most}" if most is not None and value > most else None


def _reporter_complaint(value: Any) -> str | None:
    for name in value if isinstance(value, list) else [value]:
        if name is not None and name not in REPORTERS:
            close = get_close_matches(str(name), TRACKERS, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            return f"is {name!r}, to which transformers does not report: {meant}use one of {', '.join(REPORTERS)}"
    return None


def _is_of(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON.get(kind, ()))
