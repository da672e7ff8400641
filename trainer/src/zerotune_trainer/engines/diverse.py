"""Diverse beam search: Ashwin K Vijayakumar, Michael Cogswell, Ramprasath R. Selvaraju, Qing Sun, Stefan Lee, David
Crandall, Dhruv Batra, "Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models", 2016,
https://arxiv.org/abs/1610.02424, algorithm 1 with Hamming diversity.

The algorithm is theirs, the code is ours. transformers 5 has no decoding loop for it: it refers to code on the hub,
which `generate(custom_generate=...)` downloads and executes; a job runs no code that its author has not named, and many
run without the hub. What is left in transformers takes a function in its place and hands it the model.

It leans on parts of transformers that are private and may change with any version: `GenerationMixin._prefill` and
`_update_model_kwargs_for_generation`, and the cache's `reorder_cache`. With one group it is transformers' own beam
search, token for token: a test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import GenerationConfig

IMPOSSIBLE = -1e9
"""Score of a beam that is not there."""


@dataclass
class Finished:
    """The best ended sequences of each beam group, best first."""

    sequences: torch.Tensor
    """[groups, beams, longest], filled up with the pad token."""
    scores: torch.Tensor
    """[groups, beams]: log-probability / length ** lengthPenalty, `IMPOSSIBLE` where there is none yet."""
    improvable: torch.Tensor
    """[groups]: whether a running beam may still beat the worst of these."""
    pad: int

    @classmethod
    def none(cls, groups: int, beams: int, longest: int, pad_token: int, device: torch.device) -> Finished:
        """Nothing has ended yet."""
        return cls(
            torch.full((groups, beams, longest), pad_token, device=device),
            torch.full((groups, beams), IMPOSSIBLE, device=device),
            torch.ones(groups, dtype=torch.bool, device=device),
            pad_token,
        )

    @property
    def full(self) -> torch.Tensor:
        """[groups]: whether a group has as many ended sequences as beams."""
        return (self.scores > IMPOSSIBLE / 2).all(-1)

    def add(self, candidates: torch.Tensor, scores: torch.Tensor, closed: torch.Tensor) -> None:
        """Take in `candidates` [groups, n, length] where they score among the best; `closed` groups take no more."""
        padded = pad(candidates, (0, self.sequences.shape[2] - candidates.shape[2]), value=self.pad)
        merged = torch.cat([self.scores, scores.masked_fill(closed[:, None], IMPOSSIBLE)], dim=1)
        self.scores, order = merged.topk(self.scores.shape[1])
        everything = torch.cat([self.sequences, padded], dim=1)
        self.sequences = everything.take_along_dim(order[:, :, None], dim=1)


def diverse_beam_search(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Callable[..., torch.Tensor],
    stopping_criteria: Callable[..., torch.Tensor],
    generation_config: GenerationConfig,
    *,
    beam_groups: int,
    diversity_penalty: float,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Beam search in groups; a group pays for every beam of an earlier group that chose the same token just now.

    `input_ids` holds each record `numBeams` times, one row a beam; the rows of a group are neighbours.

    Returns:
        The `numReturnSequences` best sequences of each record over all its groups, [records x that, length].
    """
    settings = generation_config
    beams, prompt_length = settings.num_beams // beam_groups, input_ids.shape[1]
    groups = len(input_ids) // beams
    kept = max(2, 1 + len(settings.eos_token_id or [])) * beams
    first_row = torch.arange(groups, device=input_ids.device)[:, None] * beams
    running = torch.full((groups, beams), IMPOSSIBLE, device=input_ids.device)
    running[:, 0] = 0.0
    finished = Finished.none(groups, beams, settings.max_length, settings.pad_token_id, input_ids.device)
    outputs = model._prefill(input_ids, settings, model_kwargs)
    while True:
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
        log_probs = logits_processor(input_ids, outputs.logits[:, -1].float().log_softmax(-1))
        totals = log_probs.view(groups, beams, -1) + running[:, :, None]
        scores, parents, tokens = _best_continuations(totals, beam_groups, diversity_penalty, kept)
        candidates = torch.cat([input_ids[first_row + parents], tokens[:, :, None]], dim=2)
        ended = stopping_criteria(candidates.flatten(0, 1), None).view(groups, kept)

        length = input_ids.shape[1] + 1 - prompt_length
        results = (scores / length**settings.length_penalty).masked_fill(~ended, IMPOSSIBLE)[:, :beams]
        closed = ~finished.improvable | (finished.full if settings.early_stopping else torch.zeros_like(finished.full))
        finished.add(candidates[:, :beams], results, closed)
        running, order = (scores + ended * IMPOSSIBLE).topk(beams)
        finished.improvable &= running[:, 0] / length**settings.length_penalty > finished.scores.min(-1).values
        stopped_early = settings.early_stopping and bool(finished.full.all())
        if ended.all() or stopped_early or not finished.improvable.any():
            return _best_of_records(finished, beam_groups, settings.num_return_sequences)

        input_ids = candidates.take_along_dim(order[:, :, None], dim=1).flatten(0, 1)
        if settings.use_cache:
            model_kwargs["past_key_values"].reorder_cache((first_row + parents.gather(1, order)).flatten())
        inputs = model.prepare_inputs_for_generation(
            input_ids, next_sequence_length=1 if settings.use_cache else None, **model_kwargs
        )
        outputs = model(**inputs, return_dict=True)


def _best_continuations(
    totals: torch.Tensor, beam_groups: int, penalty: float, kept: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, parent beams and tokens of each group's best continuations, [groups, kept] each.

    Args:
        totals: Scores of all continuations, [groups, beams, vocabulary]; the groups of a record are neighbours.
        beam_groups: Groups of a record.
        penalty: What a beam of an earlier group that chose the token costs.
        kept: How many to return.
    """
    records, beams, vocabulary = len(totals) // beam_groups, totals.shape[1], totals.shape[2]
    by_record = totals.view(records, beam_groups, beams, vocabulary)
    taken = totals.new_zeros(records, vocabulary)
    scores, picks = [], []
    for group in range(beam_groups):
        best = (by_record[:, group] - penalty * taken[:, None]).flatten(1).topk(kept)
        chosen = best.indices[:, :beams] % vocabulary
        taken.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=taken.dtype))
        scores.append(best.values)
        picks.append(best.indices)
    all_picks = torch.stack(picks, dim=1).flatten(0, 1)
    return torch.stack(scores, dim=1).flatten(0, 1), all_picks // vocabulary, all_picks % vocabulary


def _best_of_records(finished: Finished, beam_groups: int, count: int) -> torch.Tensor:
    records = len(finished.scores) // beam_groups
    order = finished.scores.view(records, -1).topk(count).indices
    sequences = finished.sequences.view(records, -1, finished.sequences.shape[-1])
    return sequences.take_along_dim(order[:, :, None], dim=1).flatten(0, 1)
