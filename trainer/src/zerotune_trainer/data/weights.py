"""The `weight` of a message: 0 keeps an answer of the assistant out of the loss, as in OpenAI's format."""

from __future__ import annotations

from typing import Any

from zerotune_trainer.data.chat import Message, assistant_turns
from zerotune_trainer.data.masks import Span
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError, DataError


def weighted(spans: list[Span], messages: list[Message], record: Record) -> list[Span]:
    """The spans of answers that count: those without a weight, or with the weight 1.

    Args:
        spans: One for every message of the assistant, in order.
        messages: The conversation.
        record: Where it is from.

    Raises:
        DataError: a weight is neither 0 nor 1, or there are weights and not one span a message.
    """
    weights = [_weight(message, record) for message in messages]
    turns = assistant_turns(messages)
    if all(weights[turn] for turn in turns):
        return spans
    if len(spans) != len(turns):
        raise DataError(
            f"{record.location}: messages have weights, and the chat template marks {len(spans)} answers for "
            f"{len(turns)} messages of the assistant",
            "remove the weights, or set a model.chatTemplate that marks each answer once",
        )
    return [span for span, turn in zip(spans, turns, strict=True) if weights[turn]]


def check_unweighted(messages: list[Message], record: Record) -> None:
    """See that no message has a weight of 0 where more than answers of the assistant count.

    Raises:
        ConfigurationError: one has.
        DataError: a weight is neither 0 nor 1.
    """
    if not all(_weight(message, record) for message in messages):
        raise ConfigurationError(
            f"{record.location}: a message has the weight 0, which keeps an answer out of the loss of answers",
            "set data.loss: assistant, or remove the weights",
        )


def _weight(message: Message, record: Record) -> bool:
    weight: Any = message.get("weight", 1)
    if weight not in (0, 1):
        raise DataError(f"{record.location}: the weight {weight!r} of a message is neither 0 nor 1", "write 0 or 1")
    return bool(weight)
