"""In which order an epoch takes the rows: shuffled as rows, then filled up for the ranks, whatever their number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import RandomSampler, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override


class EpochSampler(Sampler[int]):
    """The numbers of the rows in the order of another sampler, followed by those of blanks.

    Blanks follow the order and take no part in it, so another number of ranks sees the rows in the same order.

    Args:
        order: The order of the rows. A plain RandomSampler is seeded by epoch, as accelerate does.
        rows: How many rows there are: larger numbers are blanks (`EvenRows`).
        multiple: How many rows the ranks take at once; as many numbers are drawn as a multiple of it.
        seed: Of the order; None takes the seed of torch.
    """

    def __init__(self, order: Sampler[int], *, rows: int, multiple: int, seed: int | None) -> None:
        self._order = SeedableRandomSampler(range(rows), data_seed=seed) if type(order) is RandomSampler else order
        self._rows = rows
        self._length = math.ceil(rows / multiple) * multiple

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch."""
        if hasattr(self._order, "set_epoch"):
            self._order.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        yield from self._order
        yield from range(self._rows, self._length)

    def __len__(self) -> int:
        return self._length


class SetEpoch(TrainerCallback):
    """Sets the epoch of the sampler.

    Where training resumes within an epoch, accelerate wraps the sampler once more, and its `set_epoch` reaches only the
    samplers that it made itself (1.15): the rest of a second epoch would be taken from the order of the first.
    """

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler

    @override
    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take the order of the epoch that begins, or goes on."""
        self._sampler.set_epoch(int(state.epoch or 0))
