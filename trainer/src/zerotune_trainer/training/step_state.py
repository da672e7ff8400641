"""What the callbacks of a training run share. None of them knows the trainer, nor another callback."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch

from zerotune_trainer.errors import ForgettingError

NEVER = -1


class StopTraining(Exception):  # noqa: N818 Like StopIteration: it says where the loop ends, not that something failed.
    """Leaves the training loop from within, where transformers offers no other way, and goes no further than it."""


@dataclass
class StepState:
    """The step under way on this rank, and what has been done for it."""

    number: int = 0
    """The optimizer step that is being made, from 1."""
    tokens: int = 0
    """Tokens of this rank's rows, padding excluded."""
    losses: dict[int, list[torch.Tensor]] = field(default_factory=lambda: defaultdict(list))
    """This rank's loss of each micro batch by step, since the last log record."""
    loading: bool = False
    """Whether the engine is made, and a checkpoint is being loaded into it."""
    stopped: bool = False
    """Whether any rank was asked to stop."""
    evaluation_pending: bool = False
    """Whether the evaluation that is due at this step was cut off, or put off, by a request to stop."""
    forgotten: ForgettingError | None = None
    """Why training ends, where the model has forgotten more than it may."""
    evaluated_step: int = NEVER
    saved_step: int = NEVER
