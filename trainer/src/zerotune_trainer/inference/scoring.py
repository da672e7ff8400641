"""What task `score` gives of a record: how likely the model finds its text, its completion, or each of the labels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config import InferConfig
from zerotune_trainer.data.columns import cell_of, text_of
from zerotune_trainer.data.readers import Record
from zerotune_trainer.inference.engine import Request, Score
from zerotune_trainer.inference.prompts import Prompts


class Scoring:
    """Makes requests of records, and the cells of the output of what an engine says.

    A whole text is its first token and what follows it: that token's own likelihood is not known.
    """

    def __init__(self, config: InferConfig, tokenizer: PreTrainedTokenizerBase, prompts: Prompts) -> None:
        self._labels, self._completion = config.labels, config.data.columns.completion
        self._truncates = config.data.overflow == "truncate"
        self._tokenizer, self._prompts = tokenizer, prompts

    def continuations(self, record: Record) -> list[str]:
        """The texts that are scored behind the record's prompt; none where the prompt is the text that is scored.

        Raises:
            InputMissingError: the record lacks the column.
            DataError: the column holds something else than text.
        """
        if self._completion is None:
            return self._labels
        return [text_of(cell_of(record, self._completion), record, self._completion)]

    def requests(self, texts: Sequence[tuple[int, str, list[str]]]) -> Iterator[tuple[Request, str]]:
        """A request for each record, and why it cannot be scored; empty where it can.

        Args:
            texts: Number, prompt and continuations of each record.
        """
        prompts = self._prompts.encode([prompt for _, prompt, _ in texts])
        whole = iter(self._prompts.encode([prompt + text for _, prompt, parts in texts for text in parts]))
        for (number, _, parts), ids in zip(texts, prompts, strict=True):
            if parts:
                following = [self._following(ids, next(whole), text) for text in parts]
                request = Request(number, ids, following)
            else:
                request = Request(number, ids[:1], [ids[1:]])
            request = self._shortened(request) if self._truncates else request
            yield request, self._problem(request, "prompt and completion have" if parts else "the text has")

    def cell(self, scores: Sequence[Score]) -> str:
        """What the output has of a record, as JSON.

        Of one text its log-likelihood in nats, its tokens, and its perplexity exp(-log-likelihood / tokens), null
        where that is more than a double holds. Of labels the likeliest, and the probability of each:
        exp(log-likelihood) over the sum of those of all labels.
        """
        if not self._labels:
            [score] = scores
            found = {"logLikelihood": score.log_likelihood, "tokens": score.tokens, "perplexity": _perplexity(score)}
            return json.dumps(found)
        values = [score.log_likelihood for score in scores]
        likeliest = max(values)
        total = sum(math.exp(value - likeliest) for value in values)
        named = dict(zip(self._labels, values, strict=True))
        probabilities = {label: math.exp(value - likeliest) / total for label, value in named.items()}
        label = max(named, key=named.__getitem__)
        return json.dumps({"label": label, "probabilities": probabilities, "logLikelihoods": named})

    def _following(self, prompt: list[int], whole: list[int], text: str) -> list[int]:
        """The tokens of a text behind a prompt: as they are tokenized together, where that leaves the prompt's."""
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _shortened(self, request: Request) -> Request:
        """The request without the beginning of its prompt, or of its text, where it is too long."""
        excess = self._prompts.excess(request.length)
        if excess <= 0:
            return request
        if excess < len(request.ids):
            return Request(request.record, request.ids[excess:], request.continuations)
        if len(request.continuations) == 1:
            cut = [*request.ids, *request.continuations[0]][excess:]
            return Request(request.record, cut[:1], [cut[1:]])
        return request

    def _problem(self, request: Request, subject: str) -> str:
        if not all(request.continuations):
            return "there is no token behind another one: nothing can be scored"
        rows = [[*request.ids, *continuation] for continuation in request.continuations]
        return next(filter(None, (self._prompts.problem(row, subject) for row in rows)), "")


def _perplexity(score: Score) -> float | None:
    try:
        return math.exp(-score.log_likelihood / score.tokens)
    except OverflowError:
        return None


def cell_type(config: InferConfig) -> pa.DataType:
    """The type of the column with the results, in parquet."""
    if config.task == "generate":
        return pa.list_(pa.string()) if config.generation.num_return_sequences > 1 else pa.string()
    if config.task == "embed":
        return pa.list_(pa.float32())
    if not config.labels:
        return pa.struct({"logLikelihood": pa.float64(), "tokens": pa.int64(), "perplexity": pa.float64()})
    numbers = pa.struct(dict.fromkeys(config.labels, pa.float64()))
    return pa.struct({"label": pa.string(), "probabilities": numbers, "logLikelihoods": numbers})
