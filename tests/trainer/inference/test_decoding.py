"""What the engine generates, against plain transformers one prompt at a time without padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from zerotune_trainer.config.generation import Generation
from zerotune_trainer.engines.batches import left_padded
from zerotune_trainer.engines.contrastive import contrastive_search
from zerotune_trainer.engines.diverse import diverse_beam_search
from zerotune_trainer.engines.transformers import TransformersEngine
from zerotune_trainer.errors import ConfigurationError, StoppedError
from zerotune_trainer.inference.engine import Request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def prompts(tokenizer: Any, weaknesses: list[dict[str, Any]]) -> list[Request]:
    """Prompts of very different lengths."""
    texts = [entry["name"] if entry["id"] % 2 else entry["description"][:200] for entry in weaknesses[:9]]
    return [Request(number, ids) for number, ids in enumerate(tokenizer(texts)["input_ids"])]


def nothing() -> None:
    """A on_token that nobody hears."""


def run(model: Any, tokenizer: Any, prompts: list[Request], **options: Any) -> list[list[list[int]]]:
    return TransformersEngine(model, tokenizer, Generation(**options)).generate(prompts, nothing)


def plain(model: Any, prompts: list[Request], **options: Any) -> list[list[list[int]]]:
    """transformers' own generate, one prompt at a time."""
    settings = GenerationConfig(eos_token_id=1, pad_token_id=1, **options)
    results = []
    for prompt in prompts:
        output = model.generate(inputs=torch.tensor([prompt.ids]), generation_config=settings)
        rows = [row[len(prompt.ids) :] for row in output.tolist()]
        results.append([row[: row.index(1) + 1] if 1 in row else row for row in rows])
    return results


OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "no cache": {"use_cache": False},
    "repetition penalty": {"repetition_penalty": 1.3},
    "no repeated pairs": {"no_repeat_ngram_size": 2},
    "min new tokens": {"min_new_tokens": 20},
    "beam search": {"num_beams": 3},
    "two of three beams": {"num_beams": 3, "num_return_sequences": 2},
    "early stopping": {"num_beams": 3, "early_stopping": True, "length_penalty": 2.0},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_r51_d23_a_padded_batch_gives_what_each_prompt_gives_alone(
    model: Any, tokenizer: Any, prompts: list[Request], options: dict[str, Any]
) -> None:
    expected = plain(model, prompts, max_new_tokens=24, **options)
    assert run(model, tokenizer, prompts, max_new_tokens=24, **options) == expected
    assert len({tuple(ids) for sequences in expected for ids in sequences}) >= len(prompts)


def test_d23_padding_is_on_the_left() -> None:
    ids, mask = left_padded([[5, 6, 7], [8]], pad=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_r51_diverse_beam_search_with_one_group_is_beam_search(model: Any, prompts: list[Request]) -> None:
    for early_stopping in (False, True):
        settings = GenerationConfig(
            max_new_tokens=16,
            num_beams=4,
            num_return_sequences=2,
            eos_token_id=[1, 60, 61],
            pad_token_id=1,
            early_stopping=early_stopping,
        )
        ids, mask = left_padded([prompt.ids for prompt in prompts], 1)
        batch = {"inputs": ids, "attention_mask": mask, "generation_config": settings}
        theirs = model.generate(**batch)
        ours = model.generate(**batch, custom_generate=diverse_beam_search, beam_groups=1, diversity_penalty=0.0)
        assert ours[:, : theirs.shape[1]].tolist() == theirs.tolist()


def test_r51_beam_groups_without_penalty_agree_and_with_it_differ(
    model: Any, tokenizer: Any, prompts: list[Request]
) -> None:
    def first_tokens(penalty: float) -> list[int]:
        options = {"num_beams": 6, "num_beam_groups": 3, "num_return_sequences": 6, "diversity_penalty": penalty}
        results = run(model, tokenizer, prompts, max_new_tokens=8, **options)
        return [len({sequence[0] for sequence in sequences}) for sequences in results]

    without, some, strong = (sum(first_tokens(penalty)) for penalty in (0.0, 1.0, 100.0))
    assert without < some <= strong
    assert all(count >= 3 for count in first_tokens(100.0)), "three groups that never choose the same token"


def test_r51_contrastive_search_without_penalty_is_greedy(model: Any, prompts: list[Request]) -> None:
    settings = GenerationConfig(max_new_tokens=16, eos_token_id=1, pad_token_id=1)
    ids, mask = left_padded([prompt.ids for prompt in prompts], 1)
    batch = {"inputs": ids, "attention_mask": mask, "generation_config": settings}
    greedy = model.generate(**batch)
    ours = model.generate(**batch, custom_generate=contrastive_search, penalty_alpha=0.0, candidates=4)
    assert ours.tolist() == greedy.tolist()


def test_r51_contrastive_search_takes_the_token_of_the_best_score(
    model: Any, tokenizer: Any, prompts: list[Request]
) -> None:
    """Equation 5 of the paper, computed from whole sequences without a cache or a batch."""
    alpha, candidates = 0.6, 4
    [[actual]] = run(model, tokenizer, prompts[:1], max_new_tokens=12, penalty_alpha=alpha, top_k=candidates)
    ids, expected = list(prompts[0].ids), []
    for _ in range(12):
        probabilities, tokens = model(torch.tensor([ids])).logits[0, -1].softmax(-1).topk(candidates)
        scores = []
        for probability, token in zip(probabilities.tolist(), tokens.tolist(), strict=True):
            states = model(torch.tensor([[*ids, token]]), output_hidden_states=True).hidden_states[-1][0]
            similarity = torch.cosine_similarity(states[-1:], states[:-1]).max().item()
            scores.append((1 - alpha) * probability - alpha * similarity)
        ids.append(int(tokens[scores.index(max(scores))]))
        expected.append(ids[-1])
        if ids[-1] == 1:
            break
    assert actual == expected


def test_r51_contrastive_search_does_not_depend_on_padding(model: Any, tokenizer: Any, prompts: list[Request]) -> None:
    options = {"max_new_tokens": 16, "penalty_alpha": 0.6, "top_k": 4}
    alone = [run(model, tokenizer, [prompt], **options)[0] for prompt in prompts]
    assert run(model, tokenizer, prompts, **options) == alone


def test_r51_samples_belong_to_record_and_seed_whatever_the_batch(
    model: Any, tokenizer: Any, prompts: list[Request]
) -> None:
    options = {"max_new_tokens": 16, "do_sample": True, "top_p": 0.95, "num_return_sequences": 2}
    together = run(model, tokenizer, prompts, seed=1, **options)
    alone = [run(model, tokenizer, [prompt], seed=1, **options)[0] for prompt in reversed(prompts)]
    assert together == alone[::-1]
    assert run(model, tokenizer, prompts, seed=2, **options) != together
    assert all(first != second for first, second in together), "two samples of a record are two draws"


def test_r51_samples_follow_the_distribution(model: Any, tokenizer: Any, prompts: list[Request]) -> None:
    """2000 first tokens at temperature 2 among the 5 likeliest, against the probabilities of the model."""
    scores, tokens = model(torch.tensor([prompts[0].ids])).logits[0, -1].topk(5)
    expected = (scores / 2.0).softmax(-1)
    many = [Request(record, prompts[0].ids) for record in range(2000)]
    results = run(model, tokenizer, many, max_new_tokens=1, do_sample=True, temperature=2.0, top_k=5)
    drawn = [sequence[0] for [sequence] in results]
    shares = torch.tensor([drawn.count(int(token)) / 2000 for token in tokens])
    assert set(drawn) <= set(tokens.tolist())
    assert torch.allclose(shares, expected, atol=0.04)


@pytest.mark.parametrize("top_p", [0.5, 0.6, 0.8])
def test_r51_top_p_draws_from_the_nucleus(model: Any, tokenizer: Any, prompts: list[Request], top_p: float) -> None:
    """The fewest likeliest tokens that together have at least `top_p`: each of them is drawn, and no other."""
    chances, tokens = model(torch.tensor([prompts[0].ids])).logits[0, -1].softmax(-1).sort(descending=True)
    size = int((chances.cumsum(-1) < top_p).sum()) + 1
    many = [Request(record, prompts[0].ids) for record in range(2000)]
    results = run(model, tokenizer, many, max_new_tokens=1, do_sample=True, top_k=0, top_p=top_p)
    drawn = [sequence[0] for [sequence] in results]
    assert set(drawn) == set(tokens[:size].tolist())
    assert 1 < size < len(tokens) / 2
    shares = torch.tensor([drawn.count(int(token)) / 2000 for token in tokens[:size]])
    assert torch.allclose(shares, chances[:size] / chances[:size].sum(), atol=0.04)


def test_r51_beam_sampling_is_repeatable(model: Any, tokenizer: Any, prompts: list[Request]) -> None:
    options = {"max_new_tokens": 8, "num_beams": 2, "do_sample": True}
    assert run(model, tokenizer, prompts, seed=3, **options) == run(model, tokenizer, prompts, seed=3, **options)
    assert run(model, tokenizer, prompts, seed=3, **options) != run(model, tokenizer, prompts, seed=4, **options)


def test_requests_of_like_length_share_a_batch_and_every_one_is_completed(
    model: Any, tokenizer: Any, prompts: list[Request]
) -> None:
    engine = TransformersEngine(model, tokenizer, Generation(max_new_tokens=4), batch_size=4)
    completions = list(engine.run(prompts, nothing))
    assert sorted(each.record for each in completions) == [prompt.record for prompt in prompts]
    lengths = [len(prompts[each.record].ids) for each in completions]
    assert lengths == sorted(lengths, reverse=True)
    records = [each.batch.records for each in completions if each.batch]
    assert records[0] == 4, "the longest are as many as the job says"
    assert sum(records) == len(prompts)
    assert sum(each.batch.prompt_tokens for each in completions if each.batch) == sum(lengths)


def test_r51_beam_sampling_belongs_to_the_record_whatever_the_batch(
    model: Any, tokenizer: Any, prompts: list[Request]
) -> None:
    options = Generation(max_new_tokens=8, num_beams=2, do_sample=True)

    def sampled(requests: list[Request]) -> dict[int, list[list[int]]]:
        engine = TransformersEngine(model, tokenizer, options, batch_size=4)
        return {each.record: each.results for each in engine.run(requests, nothing)}

    assert sampled(prompts[4:]) == {record: texts for record, texts in sampled(prompts).items() if record >= 4}


def test_r52_an_extra_end_token_ends_a_text(model: Any, tokenizer: Any, prompts: list[Request]) -> None:
    free = run(model, tokenizer, prompts, max_new_tokens=16)
    end = free[0][0][3]
    ended = run(model, tokenizer, prompts, max_new_tokens=16, eos_token_ids=[end])
    assert ended == [[ids[: ids.index(end) + 1] if end in ids else ids for ids in sequences] for sequences in free]
    assert len(ended[0][0]) <= 4


def test_an_end_token_outside_the_vocabulary_is_rejected(model: Any, tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match="eosTokenIds: 99999 is not a token"):
        TransformersEngine(model, tokenizer, Generation(eos_token_ids=[99999]))


def test_a_stop_string_ends_a_text_also_where_the_model_has_no_end_token(
    model: Any, tokenizer: Any, prompts: list[Request]
) -> None:
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    free = run(model, tokenizer, prompts, max_new_tokens=16)
    ids = free[0][0]
    # A text may hold broken bytes, which a stop string cannot.
    start = next(at for at in range(2, 12) if tokenizer.decode(ids[at : at + 2]).isascii())
    stop = tokenizer.decode(ids[start : start + 2])
    model.generation_config.eos_token_id = None
    ended = run(model, tokenizer, prompts, max_new_tokens=16, stop_strings=[stop])
    assert ended[0][0] == ids[: start + 2]
    assert tokenizer.decode(ended[0][0]).endswith(stop)
    assert any(len(ids) == 16 for [ids] in ended)


def test_options_of_the_model_folder_do_not_leak(model: Any, tokenizer: Any, prompts: list[Request]) -> None:
    greedy = run(model, tokenizer, prompts, max_new_tokens=8)
    model.generation_config = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=9.0, eos_token_id=1)
    assert run(model, tokenizer, prompts, max_new_tokens=8) == greedy


def test_a_request_to_stop_is_heard_within_a_generation(model: Any, tokenizer: Any, prompts: list[Request]) -> None:
    calls = 0

    def on_token() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise StoppedError("enough")

    with pytest.raises(StoppedError):
        TransformersEngine(model, tokenizer, Generation(max_new_tokens=50)).generate(prompts, on_token)
    assert calls == 5
