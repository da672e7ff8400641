"""Odds ratio preference optimization: pairs, without a reference."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from zerotune_trainer.config.training import Preference
from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.methods.preference import PairObjective, PreferenceMethod, reward_figures
from zerotune_trainer.training.batches import Batch
from zerotune_trainer.training.log_probabilities import completion_lengths, token_log_probabilities
from zerotune_trainer.training.objective import Figures, Measured, Objective

_TINY = torch.finfo(torch.float32).tiny


class Orpo(PreferenceMethod):
    """ORPO as TRL has it (Hong et al., arXiv 2403.07691)."""

    has_reference = False

    def of(self, preference: Preference) -> Objective:
        """See PreferenceMethod."""
        return OrpoObjective(preference)


class OrpoObjective(PairObjective):
    """The loss of a token of chosen sequences, prompts included, and beta times that of the odds ratio of a pair."""

    def units(self, batch: Batch) -> torch.Tensor:
        """Pairs, and tokens of chosen sequences that follow another."""
        return torch.cat([super().units(batch), _predicted(batch).sum()[None].float()])

    def measure(self, model: nn.Module, batch: Batch) -> Measured:
        """See Objective."""
        labels, weights = batch["labels"], batch["weights"]
        predicted = _predicted(batch)
        both = torch.cat([predicted, labels[len(predicted) :, 1:] != IGNORE_INDEX])
        wanted = torch.full_like(labels, IGNORE_INDEX)
        wanted[:, 1:] = torch.where(both, batch["input_ids"][:, 1:], IGNORE_INDEX)
        by_token = token_log_probabilities(model, batch, wanted)
        counted = labels[:, 1:] != IGNORE_INDEX
        means = (by_token * counted).sum(dim=1) / completion_lengths(batch)
        # The odds of a row that only fills the batch up, with probability 1, would have no gradient that is a number.
        chosen, rejected = torch.where(weights.repeat(2) > 0, means, -1.0).chunk(2)
        log_odds = _log_odds(chosen) - _log_odds(rejected)
        ratio = logsigmoid(log_odds)
        nll = -by_token[: len(predicted)].sum()
        sums = torch.stack([-self.beta * (ratio * weights).sum(), nll])
        return Measured(sums, self._figures(weights, (chosen, rejected), log_odds, (nll, predicted.sum())))

    def _figures(
        self,
        weights: torch.Tensor,
        logps: tuple[torch.Tensor, torch.Tensor],
        log_odds: torch.Tensor,
        nll: tuple[torch.Tensor, torch.Tensor],
    ) -> Figures:
        rewards = (self.beta * logps[0], self.beta * logps[1])
        odds = log_odds.detach()
        return {
            **reward_figures(weights, rewards, logps),
            "log_odds_chosen": ((odds * weights).sum(), weights.sum()),
            "log_odds_ratio": ((logsigmoid(odds) * weights).sum(), weights.sum()),
            "nll_loss": (nll[0].detach(), nll[1].float()),
        }


def _predicted(batch: Batch) -> torch.Tensor:
    """Which tokens of the chosen sequences follow another, of rows that count, (pairs, length - 1)."""
    attended: torch.Tensor = batch["attention_mask"].chunk(2)[0][:, 1:] > 0
    counts: torch.Tensor = batch["weights"] > 0
    return attended & counts[:, None]


def _log_odds(log_probability: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)), by log1p where p is small and by expm1 where it is not (Maechler 2012)."""
    by_log1p = torch.log1p(-log_probability.exp())
    by_expm1 = torch.log(torch.expm1(log_probability).neg().clamp(min=_TINY))
    log_complement = torch.where(log_probability < -math.log(2), by_log1p, by_expm1)
    odds: torch.Tensor = log_probability - log_complement
    return odds
