"""What the functions of a plug-in are called with, and whether one can be called so. Nothing of it is run.

The trainer looks at the function itself, the operator at the text of its file: both by the same rules.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from zerotune_trainer.errors import ConfigurationError


@dataclass(frozen=True)
class Signature:
    """What a function is called with."""

    text: str
    """As a user writes it: `def NAME(record: dict) -> dict`."""
    positional: int
    named: tuple[str, ...] = ()
    is_class: bool = False
    """Whether it is a class that is made, without arguments."""

    def problem(self, signature: inspect.Signature) -> str:
        """Why a function of a signature cannot be called so; empty where it can."""
        try:
            signature.bind(*[None] * self.positional, **dict.fromkeys(self.named))
        except TypeError as error:
            return str(error)
        return ""


GENERATOR = "it is a generator, which returns nothing before it is iterated over"
COROUTINE = "it is async, and is called without await"
"""What a function may not be, whatever it is called with."""

PROCESSING = Signature("def NAME(record: dict) -> dict", 1)
FORMATTING = Signature("def NAME(record: dict) -> str | list[dict]", 1)
LOSS = Signature("def NAME(outputs, labels, num_items_in_batch=None) -> Tensor", 2, ("num_items_in_batch",))
COLLATOR = Signature("def NAME(rows: list[dict]) -> dict", 1)
METRIC = Signature("def NAME(predictions: list[str], references: list[str]) -> float | dict[str, float]", 2)
CALLBACK = Signature("class NAME(TrainerCallback), made without arguments", 0, is_class=True)


def cannot_be_called(file: str, name: str, problem: str, signature: Signature) -> ConfigurationError:
    """The error that a function of a file is none that can be called so."""
    return ConfigurationError(f"{file}:{name} cannot be called: {problem}", f"define {signature.text}")


def no_callback(file: str, name: str) -> ConfigurationError:
    """The error that something of a file is none of transformers' callbacks."""
    return ConfigurationError(
        f"{file}:{name} is no class derived from transformers.TrainerCallback", f"define {CALLBACK.text}"
    )
