"""Engine `transformers`: a whole copy of the model on this rank's device, and `model.generate` or its logits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar

import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)

from zerotune_trainer import model as models
from zerotune_trainer.adapters import merge, model_folders
from zerotune_trainer.causality import check_causality
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.generation import Embedding, Generation, Task
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.engines.batches import MORE, by_length, completions, left_padded
from zerotune_trainer.engines.contrastive import contrastive_search
from zerotune_trainer.engines.diverse import diverse_beam_search
from zerotune_trainer.engines.embedding import HiddenStates, vectors_of
from zerotune_trainer.engines.lockstep import Mode
from zerotune_trainer.engines.sampling import sampler, sampling_of, seed_of
from zerotune_trainer.engines.scoring import scores_of
from zerotune_trainer.engines.special_tokens import end_tokens, pad_token
from zerotune_trainer.inference.engine import Completion, ModelReplica, OnToken, Request, Results, Score, Vector
from zerotune_trainer.training.log_probabilities import (
    add_log_probabilities,
    check_log_probabilities,
)

_Row = TypeVar("_Row")


class TransformersEngine:
    """Generates with plain transformers.

    Only the spec's options count: what the model's `generation_config.json` says of sampling is ignored, its end
    tokens are kept.
    """

    mode: Mode = torch.inference_mode
    """How it generates without gradients."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        generation: Generation,
        batch_size: int = 8,
        task: Task = "generate",
        embedding: Embedding | None = None,
    ) -> None:
        """Raises ConfigurationError for an end token outside the vocabulary, or a model that cannot be scored with."""
        # Beam sampling draws from torch's own generator, one for the whole batch: alone, a record has its own.
        is_shared = generation.do_sample and generation.num_beams > 1
        self.batch_size = 1 if is_shared else batch_size
        self.most = 1 if is_shared else MORE * batch_size
        self.model: Any = model
        self.device = model.device
        model.eval()  # type: ignore[no-untyped-call]
        self.generation = generation
        self.ends = end_tokens(model.generation_config, model.config, generation)
        self.pad = pad_token(tokenizer, self.ends, model.config.get_text_config().vocab_size)
        self.model.generation_config = _configured(bos_token_id=tokenizer.bos_token_id)
        self.stop_strings = [StopStringCriteria(tokenizer, generation.stop_strings)] if generation.stop_strings else []
        self.task = task
        if task == "score":
            add_log_probabilities(model, by_rows=True)
            check_log_probabilities(model)
        self.embedding = embedding or Embedding()
        self.hidden_states = HiddenStates(model) if task == "embed" else None

    @classmethod
    def load(cls, config: InferConfig, replica: ModelReplica) -> Self:
        """See Engine."""
        folders = model_folders(config)
        accelerator = config.launch.accelerator
        device = f"cuda:{replica.local_rank}" if accelerator == "cuda" else "cpu"
        precision = models.resolve_precision(config.precision, accelerator)
        loaded = models.load_model(config.model, folders.base, precision, accelerator, device)
        if folders.adapter is not None:
            loaded = merge(loaded, folders.adapter)
        check_causality(loaded)
        tokenizer = load_tokenizer(config.model, folders.tokenizer)
        return cls(loaded, tokenizer, config.generation, config.per_device_batch_size, config.task, config.embedding)

    @classmethod
    def ranks_per_model_replica(cls, config: InferConfig, world_size: int) -> int:  # noqa: ARG003
        """See Engine."""
        return 1

    @property
    def context_length(self) -> int | None:
        """See Engine."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def run(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
        """See Engine."""
        for batch in self.batches(requests):
            began = time.monotonic()
            yield from completions(batch, self.results(batch, on_token), time.monotonic() - began)

    def close(self) -> None:
        """See Engine."""
        self.model = None

    def batches(self, requests: Sequence[Request], ranks: int = 1) -> Iterator[list[Request]]:
        """What so many ranks do at once, one round after another."""
        new_tokens = self.generation.max_new_tokens if self.task == "generate" else 0
        return by_length(requests, ranks * self.batch_size, ranks * self.most, new_tokens)

    def results(self, batch: Sequence[Request], on_token: OnToken) -> list[Results]:
        """What is generated for each request of a batch, the scores of its continuations, or its embedding."""
        tasks: dict[Task, Callable[[Sequence[Request], OnToken], Sequence[Results]]]
        tasks = {"generate": self.generate, "score": self.score, "embed": self.embed}
        return list(tasks[self.task](batch, on_token))

    @torch.inference_mode()
    def embed(self, batch: Sequence[Request], on_token: OnToken) -> list[list[Vector]]:
        """The embedding of each request's text."""
        assert self.hidden_states is not None, "the engine was loaded for another task"
        states, asked = self.hidden_states, self.embedding
        parts = self._parts([request.ids for request in batch], on_token)
        return [[each] for part in parts for each in vectors_of(states, part, asked, self.pad, self.device)]

    @torch.inference_mode()
    def score(self, batch: Sequence[Request], on_token: OnToken) -> list[list[Score]]:
        """The scores of the continuations of each request."""
        rows = [(request.ids, each) for request in batch for each in request.continuations]
        parts = self._parts(rows, on_token)
        scores = [each for part in parts for each in scores_of(self.model, part, self.pad, self.device)]
        following = iter(scores)
        return [[next(following) for _ in request.continuations] for request in batch]

    def _parts(self, rows: Sequence[_Row], on_token: OnToken) -> Iterator[Sequence[_Row]]:
        """The rows of one forward pass after another."""
        for start in range(0, len(rows), self.batch_size):
            on_token()
            yield rows[start : start + self.batch_size]

    def generate(self, prompts: Sequence[Request], on_token: OnToken) -> list[list[list[int]]]:
        """Token ids generated for each prompt of one batch, as in `Completion`."""
        count = self.generation.num_return_sequences
        rows = prompts if self.generation.num_beams > 1 else [prompt for prompt in prompts for _ in range(count)]
        ids, mask = left_padded([prompt.ids for prompt in rows], self.pad)
        with self.mode():
            output = self.model.generate(
                inputs=ids.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=self._settings(),
                stopping_criteria=StoppingCriteriaList([*self.stop_strings, _TokenCallback(on_token)]),
                # Where ranks share a model, the engine keeps them together.
                synced_gpus=False,
                **self._decoding([prompt.record for prompt in prompts]),
            )
        generated = [self._trimmed(row) for row in output[:, ids.shape[1] :].tolist()]
        return [generated[start : start + count] for start in range(0, len(generated), count)]

    def _settings(self) -> GenerationConfig:
        options = self.generation
        return _configured(
            max_new_tokens=options.max_new_tokens,
            min_new_tokens=options.min_new_tokens,
            num_beams=options.num_beams,
            num_return_sequences=options.num_return_sequences if options.num_beams > 1 else 1,
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            use_cache=options.use_cache,
            pad_token_id=self.pad,
            eos_token_id=self.ends or None,
            **_beam_options(options),
        )

    def _decoding(self, records: list[int]) -> dict[str, Any]:
        """What `generate` is given besides: nothing for greedy and beam search."""
        options = self.generation
        if options.num_beam_groups > 1:
            return {
                "custom_generate": diverse_beam_search,
                "beam_groups": options.num_beam_groups,
                "diversity_penalty": options.diversity_penalty,
            }
        if options.penalty_alpha:
            return {
                "custom_generate": contrastive_search,
                "penalty_alpha": options.penalty_alpha,
                "candidates": sampling_of(options).top_k,
            }
        if options.do_sample and options.num_beams > 1:
            torch.manual_seed(seed_of(options.seed, records[0]))
        elif options.do_sample:
            return {"logits_processor": sampler(options, records, self.device)}
        return {}

    def _trimmed(self, row: list[int]) -> list[int]:
        """A row up to and with its end token; one that ended at a stop string is filled up with the pad token."""
        for position, token in enumerate(row):
            if token in self.ends:
                return row[: position + 1]
        while self.stop_strings and row and row[-1] == self.pad:
            row.pop()
        return row


class _TokenCallback(StoppingCriteria):
    """Stops nothing: a call for every position, to show life and to notice a request to stop."""

    eos_token_id = None
    """`generate` looks for it: where no criterion has it, rows that a stop string has ended are written on."""

    def __init__(self, on_token: OnToken) -> None:
        self.on_token = on_token

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:  # noqa: ARG002
        self.on_token()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]


def _configured(**options: Any) -> GenerationConfig:
    return GenerationConfig(**options)  # type: ignore[no-untyped-call]


def _beam_options(options: Generation) -> dict[str, Any]:
    if options.num_beams == 1:
        return {"do_sample": False}
    beams = {"early_stopping": options.early_stopping, "length_penalty": options.length_penalty}
    if not options.do_sample:
        return {"do_sample": False, **beams}
    return {"do_sample": True, **sampling_of(options)._asdict(), **beams}
