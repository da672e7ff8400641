"""Direct preference optimization: pairs, compared with what a reference thinks of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from zerotune_trainer.config.training import LossType, Preference
from zerotune_trainer.methods.preference import PairObjective, PreferenceMethod, first_and_second, reward_figures
from zerotune_trainer.training.batches import Batch
from zerotune_trainer.training.log_probabilities import completion_lengths
from zerotune_trainer.training.objective import Measured, Objective


class Dpo(PreferenceMethod):
    """DPO with the losses of TRL."""

    def of(self, preference: Preference) -> Objective:
        """See PreferenceMethod."""
        return DpoObjective(preference)


class LogRatios(NamedTuple):
    """Log-probabilities less those of the reference, (pairs,), and the tokens of the completions."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor


class DpoObjective(PairObjective):
    """The mean loss of a pair."""

    def measure(self, model: nn.Module, batch: Batch) -> Measured:
        """See Objective."""
        logps = first_and_second(model, batch)
        reference = batch["reference"].unbind(dim=1)
        tokens = completion_lengths(batch).chunk(2)
        chosen, rejected = (mine - theirs for mine, theirs in zip(logps, reference, strict=True))
        losses = pair_losses(LogRatios(chosen, rejected, *tokens), self.preference)
        weights = batch["weights"]
        rewards = (self.beta * chosen, self.beta * rejected)
        return Measured((losses * weights).sum()[None], reward_figures(weights, rewards, logps))


def pair_losses(ratios: LogRatios, preference: Preference) -> torch.Tensor:
    """Losses of pairs, (pairs,), as TRL's DPOTrainer computes them; it offers no function for that."""
    names = preference.loss_type
    weights = preference.loss_weights or [1.0] * len(names)
    losses = [_losses_of(name, ratios, preference) * float(weight) for name, weight in zip(names, weights, strict=True)]
    return torch.stack(losses).sum(dim=0)


def _losses_of(name: LossType, ratios: LogRatios, preference: Preference) -> torch.Tensor:
    """One of the losses of pairs, (pairs,).

    sigmoid: Rafailov et al., arXiv 2305.18290. hinge: SLiC, 2305.10425. ipo: 2310.12036, by the token as its authors
    have it. robust: 2403.00409. apo_zero, apo_down: 2408.06266.
    """
    beta, smoothing = float(preference.beta), float(preference.label_smoothing)
    delta = ratios.chosen - ratios.rejected
    match name:
        case "sigmoid":
            return -logsigmoid(beta * delta)
        case "hinge":
            return torch.relu(1 - beta * delta)
        case "ipo":
            by_token = ratios.chosen / ratios.chosen_tokens - ratios.rejected / ratios.rejected_tokens
            return (by_token - 1 / (2 * beta)) ** 2
        case "robust":
            clean, flipped = logsigmoid(beta * delta), logsigmoid(-beta * delta)
            return (smoothing * flipped - (1 - smoothing) * clean) / (1 - 2 * smoothing)
        case "apo_zero":
            return 1 - torch.sigmoid(beta * ratios.chosen) + torch.sigmoid(beta * ratios.rejected)
        case "apo_down":
            return torch.sigmoid(beta * ratios.chosen) + 1 - torch.sigmoid(beta * delta)
