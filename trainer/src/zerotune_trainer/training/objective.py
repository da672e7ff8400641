"""A loss of a method's own, and the figures that go with it, over micro batches, accumulation and ranks.

A loss is a sum of means, each over units of its own, such as pairs and tokens. A micro batch gives the sums; they are
divided by the units of the whole optimizer step on all ranks, so that neither the micro batch nor the ranks matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import nn

from zerotune_trainer.errors import DataError
from zerotune_trainer.training.batches import TOKENS, Batch, to_device

Figures = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""By name a sum and what it is divided by. A method gives the same names for every micro batch."""


@dataclass(frozen=True)
class Measured:
    """What a micro batch gives: the sums whose means add up to the loss, (units,), and figures without gradient."""

    sums: torch.Tensor
    figures: Figures


class Objective(ABC):
    """What a method minimizes."""

    @abstractmethod
    def units(self, batch: Batch) -> torch.Tensor:
        """What the sums of a micro batch are divided by, (units,), float32."""

    @abstractmethod
    def measure(self, model: nn.Module, batch: Batch) -> Measured:
        """A forward pass. Every rank calls it at the same time."""

    def derived(self, figures: dict[str, float]) -> dict[str, float]:
        """The figures with those that follow from others."""
        return figures

    def loss(self, measured: Measured, units: torch.Tensor) -> torch.Tensor:
        """The share of a micro batch in the loss of an optimizer step, whose units on all ranks are these."""
        return (measured.sums / units.clamp(min=1)).sum()


@dataclass
class Totals:
    """Figures summed up since the last log record."""

    figures: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, figures: Figures) -> None:
        """Add those of a micro batch."""
        for name, (total, count) in figures.items():
            pair = torch.stack([total.detach(), count.detach()]).double()
            self.figures[name] = self.figures[name] + pair if name in self.figures else pair

    def means(self) -> dict[str, float]:
        """The means over all ranks, which all call this; it starts anew. What nothing was counted of is absent."""
        if not self.figures:
            return {}
        totals = torch.stack([self.figures[name] for name in sorted(self.figures)])
        names = sorted(self.figures)
        self.figures = {}
        dist.all_reduce(totals)
        return {name: total / count for name, (total, count) in zip(names, totals.tolist(), strict=True) if count}


def evaluate(
    objective: Objective, model: nn.Module, batches: Iterable[Batch], device: torch.device
) -> dict[str, float]:
    """Loss and figures over a rank's validation batches, the same on every rank, named `eval_loss` and so on.

    Raises:
        DataError: there is nothing to measure.
    """
    model.eval()
    totals, loss = Totals(), torch.zeros(0)
    with torch.no_grad():
        for batch in batches:
            inputs = to_device({key: value for key, value in batch.items() if key != TOKENS}, device)
            measured = objective.measure(model, inputs)
            totals.add(measured.figures)
            pair = torch.stack([measured.sums, objective.units(inputs)]).double()
            loss = pair if not loss.numel() else loss + pair
    dist.all_reduce(loss)
    sums, units = loss
    if not units.sum():
        raise DataError("no validation row has a completion", "see the columns that data.columns names")
    figures = {"loss": float((sums / units.clamp(min=1)).sum())} | objective.derived(totals.means())
    return {f"eval_{name}": value for name, value in figures.items()}
