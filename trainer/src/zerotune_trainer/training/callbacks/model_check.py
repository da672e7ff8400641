"""A check of the model before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override


class ModelCheck(TrainerCallback):
    """Checks the model before the first step. Every rank does: under ZeRO-3 a forward pass takes all of them.

    Args:
        check: Raises a ZerotuneError where the model is not fit for the job.
    """

    def __init__(self, check: Callable[[PreTrainedModel], None]) -> None:
        self._check = check

    @override
    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **_: Any,
    ) -> None:
        """Check it."""
        assert model is not None, "transformers passes it"
        self._check(model)
