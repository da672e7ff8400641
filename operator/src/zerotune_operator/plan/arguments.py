"""What a FineTuneJob sets and nothing would read, where that takes a look into texts and groups of any shape. Pure."""

from __future__ import annotations

from difflib import get_close_matches

from zerotune_operator.api.jobs import FineTuneJobSpec
from zerotune_operator.plan.deepspeed import DEEPSPEED_ADAMS
from zerotune_operator.plan.overrides import lookup
from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.config.methods import METHODS
from zerotune_trainer.config.optimizer import DEFAULT_OPTIMIZER, OPTIM_ARGS, WITH_TARGETS
from zerotune_trainer.config.training import Training
from zerotune_trainer.errors import ConfigurationError

_OF_TRACKERS = ("run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")
_PARAMS = {"adamBeta1": "betas", "adamBeta2": "betas", "adamEpsilon": "eps"}
"""What options of an Adam are called in the parameters of DeepSpeed's optimizers."""


def check_arguments(spec: FineTuneJobSpec) -> None:
    """See that what is set is read.

    Raises:
        ConfigurationError: something is not.
    """
    _check_optim_args(spec.training)
    _check_companions(spec.training.arguments)
    _check_deepspeed_optimizer(spec)
    if spec.data.chat_template_kwargs and (METHODS[spec.method].plain_text or spec.data.columns.text is not None):
        raise ConfigurationError(
            "data.chatTemplateKwargs are for conversations, and the job trains on plain text",
            "leave data.chatTemplateKwargs out, or use method sft and data.columns.messages",
        )


def _check_optim_args(training: Training) -> None:
    optimizer = training.arguments.get("optim") or DEFAULT_OPTIMIZER
    read = OPTIM_ARGS.get(optimizer)
    text = training.arguments.get("optim_args")
    if not text or read is None:
        return
    for part in text.replace(" ", "").split(","):
        name, equals, _ = part.partition("=")
        if not equals:
            raise ConfigurationError(
                f"training.arguments.optim_args is {text!r}, and {part!r} gives nothing a value",
                "write NAME=VALUE, and a comma before the next",
            )
        if name not in read:
            close = get_close_matches(name, read, n=1)
            raise ConfigurationError(
                f"training.arguments.optim_args gives {name!r}, which optim {optimizer} does not read",
                f"{f'did you mean {close[0]}? ' if close else ''}it reads {', '.join(read)}",
            )


def _check_companions(arguments: JsonObject) -> None:
    """See that options of another argument are given together with it. Those of any type can be held by no rule."""
    if arguments.get("optim_target_modules") and arguments.get("optim") not in WITH_TARGETS:
        raise ConfigurationError(
            f"training.arguments.optim_target_modules has no effect with optim {arguments.get('optim')}",
            f"set optim to one of {', '.join(WITH_TARGETS)}, or leave optim_target_modules out",
        )
    for name in _OF_TRACKERS:
        if arguments.get(name) is not None and arguments.get("report_to") in (None, "none", [], ["none"]):
            raise ConfigurationError(
                f"training.arguments.{name} is for a tracker, and report_to names none",
                f"name one in training.arguments.report_to, or leave {name} out",
            )


def _check_deepspeed_optimizer(spec: FineTuneJobSpec) -> None:
    """See that what an optimizer of DeepSpeed's own leaves aside is not set."""
    kind = lookup(spec.deepspeed, "optimizer.type")
    if kind is None or str(kind).lower() in DEEPSPEED_ADAMS:
        return
    given = spec.training.model_dump(by_alias=True, exclude_defaults=True).keys()
    read = lookup(spec.deepspeed, "optimizer.params") or {}
    for name, param in _PARAMS.items():
        if name in given and param not in read:
            raise ConfigurationError(
                f"training.{name} has no effect with deepspeed.optimizer {kind}",
                f"leave training.{name} out, and set what that optimizer reads in deepspeed.optimizer.params",
            )
