"""Contrastive search: Yixuan Su, Tian Lan, Yan Wang, Dani Yogatama, Lingpeng Kong, Nigel Collier, "A Contrastive
Framework for Neural Text Generation", NeurIPS 2022, https://arxiv.org/abs/2202.06417, equation 5.

The algorithm is theirs, the code is ours. transformers 5 has no decoding loop for it: it refers to code on the hub,
which `generate(custom_generate=...)` downloads and executes; a job runs no code that its author has not named, and many
run without the hub. What is left in transformers takes a function in its place and hands it the model.

It leans on parts of transformers that are private and may change with any version: `GenerationMixin._prefill`,
`_update_model_kwargs_for_generation` and `_expand_inputs_for_generation`, and the cache's `batch_select_indices` and
`batch_repeat_interleave`. Tests compare it with the paper's equation, computed without a cache, and with greedy search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import normalize
from transformers import GenerationConfig


def contrastive_search(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Callable[..., torch.Tensor],
    stopping_criteria: Callable[..., torch.Tensor],
    generation_config: GenerationConfig,
    *,
    penalty_alpha: float,
    candidates: int,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Of the likeliest tokens, take the one that is likely and unlike what is there already.

    A token's score is (1 - alpha) times its probability less alpha times the largest cosine between its hidden state
    and those of all tokens before it. The candidates of a step are run through the model at once, as rows of one batch;
    the chosen one's logits serve the next step, so a token costs one forward pass.

    Returns:
        Prompts and what was generated, [rows, length]; rows that ended early are filled with the pad token.
    """
    rows, pad = len(input_ids), generation_config.pad_token_id
    model_kwargs["output_hidden_states"] = True
    outputs = model._prefill(input_ids, generation_config, model_kwargs)
    seen = _real_tokens(input_ids, model_kwargs)
    states, logits = normalize(outputs.hidden_states[-1], dim=-1), outputs.logits[:, -1].float()
    running = torch.ones(rows, dtype=torch.bool, device=input_ids.device)
    first_row = torch.arange(rows, device=input_ids.device) * candidates
    while running.any():
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
        probabilities, tokens = logits_processor(input_ids, logits).softmax(-1).topk(candidates)
        outputs = _forward_candidates(model, input_ids, tokens, model_kwargs)
        options = normalize(outputs.hidden_states[-1][:, -1], dim=-1).view(rows, candidates, -1)
        similarity = torch.einsum("rch,rlh->rcl", options, states).masked_fill(~seen[:, None], -1.0).amax(-1)
        choice = ((1 - penalty_alpha) * probabilities - penalty_alpha * similarity).argmax(-1)
        chosen_row = first_row + choice
        outputs.past_key_values.batch_select_indices(chosen_row)
        logits = outputs.logits[chosen_row, -1].float()
        states = torch.cat([states, options.flatten(0, 1)[chosen_row, None]], dim=1)
        seen = torch.cat([seen, running[:, None]], dim=1)
        token = tokens.gather(1, choice[:, None]).where(running[:, None], torch.full_like(choice[:, None], pad))
        input_ids = torch.cat([input_ids, token], dim=1)
        running &= ~stopping_criteria(input_ids, None)
    return input_ids


def _real_tokens(input_ids: torch.Tensor, model_kwargs: dict[str, Any]) -> torch.Tensor:
    mask = model_kwargs.get("attention_mask")
    return torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask.bool()


def _forward_candidates(model: Any, input_ids: torch.Tensor, tokens: torch.Tensor, model_kwargs: dict[str, Any]) -> Any:
    count = tokens.shape[1]
    expanded_ids, expanded = model._expand_inputs_for_generation(
        expand_size=count, is_encoder_decoder=False, input_ids=input_ids, **model_kwargs
    )
    expanded["past_key_values"].batch_repeat_interleave(count)
    candidate_ids = torch.cat([expanded_ids, tokens.reshape(-1, 1)], dim=1)
    inputs = model.prepare_inputs_for_generation(candidate_ids, next_sequence_length=1, **expanded)
    return model(**inputs, return_dict=True)
