"""Kahneman-Tversky optimization: completions that were judged good or bad, compared with a reference."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.training import Preference
from zerotune_trainer.data import DataCounts, imbalance
from zerotune_trainer.data.padding_free import LENGTHS
from zerotune_trainer.methods.preference import PairObjective, PreferenceMethod
from zerotune_trainer.training.batches import Batch
from zerotune_trainer.training.log_probabilities import completion_log_probabilities
from zerotune_trainer.training.objective import Figures, Measured, Objective


class Kto(PreferenceMethod):
    """KTO as TRL has it (Ethayarajh et al., arXiv 2402.01306)."""

    def of(self, preference: Preference) -> Objective:
        """See PreferenceMethod."""
        return KtoObjective(preference)

    def warnings(self, config: TrainConfig, counts: DataCounts) -> list[str]:
        """See Method: good and bad completions that weigh too differently."""
        text = imbalance(counts.train, config.preference or Preference())
        return [text] if text else []


class KtoObjective(PairObjective):
    """The mean loss of a completion. The second sequence of a row has another's completion behind the same prompt:
    how much likelier than to the reference such a one is, over the micro batches of all ranks, is the divergence.
    """

    def measure(self, model: nn.Module, batch: Batch) -> Measured:
        """See Objective."""
        weights, reference = batch["weights"], batch["reference"]
        rows = len(weights)
        with torch.no_grad():
            mismatched = completion_log_probabilities(model, _sequences(batch, slice(rows, None)))
        divergence = _divergence((mismatched - reference[:, 1]) * weights, weights)
        logps = completion_log_probabilities(model, _sequences(batch, slice(rows)))
        ratios = logps - reference[:, 0]
        good = batch["desirable"]
        # 1 - sigmoid of how much better a good completion has become, or how much worse a bad one.
        gains = torch.where(good, ratios - divergence, divergence - ratios)
        importance = torch.where(
            good, float(self.preference.desirable_weight), float(self.preference.undesirable_weight)
        )
        losses = importance * (1 - torch.sigmoid(self.beta * gains))
        figures = self._figures(weights, good, ratios.detach(), logps.detach())
        return Measured((losses * weights).sum()[None], {**figures, "kl": (divergence, torch.ones_like(divergence))})

    def derived(self, figures: dict[str, float]) -> dict[str, float]:
        """See Objective: the margin is that of the means, since completions are not paired."""
        if not {"rewards/chosen", "rewards/rejected"} <= figures.keys():
            return figures
        return figures | {"rewards/margins": figures["rewards/chosen"] - figures["rewards/rejected"]}

    def _figures(self, weights: torch.Tensor, good: torch.Tensor, ratios: torch.Tensor, logps: torch.Tensor) -> Figures:
        figures: Figures = {}
        for name, which in (("chosen", weights * good), ("rejected", weights * ~good)):
            figures[f"rewards/{name}"] = ((self.beta * ratios * which).sum(), which.sum())
            figures[f"logps/{name}"] = ((logps * which).sum(), which.sum())
        return figures


def _sequences(batch: Batch, rows: slice) -> Batch:
    """Some sequences of a batch."""
    found = {name: batch[name][rows] for name in ("input_ids", "labels", "attention_mask")}
    return found | ({LENGTHS: batch[LENGTHS].of(rows)} if LENGTHS in batch else {})


def _divergence(ratios: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over the rows of all ranks, at least 0."""
    totals = torch.stack([ratios.sum(), weights.sum()])
    dist.all_reduce(totals)
    return (totals[0] / totals[1].clamp(min=1)).clamp(min=0)
