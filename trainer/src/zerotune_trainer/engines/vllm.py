"""Engine `vllm`: vLLM, which batches token by token and keeps keys and values in pages.

The leader of a model replica runs it over the devices of all its ranks; the others wait. vLLM sees all requests of a
shard at once, and finishes them in any order. Written to its class LLMEngine of version 0.32:
https://docs.vllm.ai/en/stable/api/vllm/v1/engine/llm_engine/.

What vLLM computes for a record may differ in its last bits with what else is in the batch
(https://docs.vllm.ai/en/stable/features/batch_invariance/). After a restart no record is lost or there twice, but a
text may go on otherwise where two tokens are all but equally likely.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from zerotune_trainer.adapters import model_folders
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.generation import Generation
from zerotune_trainer.config.packages import require_engine
from zerotune_trainer.engines.batches import completions
from zerotune_trainer.engines.sampling import sampling_of, seed_of
from zerotune_trainer.engines.special_tokens import end_tokens
from zerotune_trainer.engines.vllm_start import start, temporary_folder
from zerotune_trainer.errors import TemporaryError
from zerotune_trainer.inference.engine import Completion, ModelReplica, OnToken, Request, Results, Score
from zerotune_trainer.model_checks import empty_model
from zerotune_trainer.sizing.model_config import shape_of_file


class VllmEngine:
    """Generates with vLLM.

    Args:
        engine: A vLLM `LLMEngine`, or None on a rank that does not lead its model replica.
        config: The job.
        ends: Tokens that end a generation.
        context_length: Most tokens that the model was made for.
    """

    def __init__(self, engine: Any, config: InferConfig, ends: list[int], context_length: int | None) -> None:
        self._engine, self._config, self._ends = engine, config, ends
        self._context_length = context_length

    @classmethod
    def ranks_per_model_replica(cls, config: InferConfig, world_size: int) -> int:  # noqa: ARG003
        """See Engine."""
        return config.tensor_parallel

    @classmethod
    def load(cls, config: InferConfig, replica: ModelReplica) -> Self:
        """See Engine."""
        require_engine("vllm")
        folders = model_folders(config)
        shape = shape_of_file(folders.base / "config.json")
        ends = _end_tokens(config, folders.base)
        engine = start(config, folders, replica, shape) if replica.is_leader else None
        return cls(engine, config, ends, shape.context)

    @property
    def context_length(self) -> int | None:
        """See Engine. A text that is scored is followed by a token that vLLM generates, for it always does."""
        scored = 1 if self._config.task == "score" else 0
        return self._context_length and self._context_length - scored

    def run(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
        """See Engine; a rank that does not lead has nothing to do."""
        if self._engine is None:
            return
        finished, began = self._finished(requests, on_token), time.monotonic()
        while batch := list(itertools.islice(finished, self._config.per_device_batch_size)):
            seconds = time.monotonic() - began
            yield from completions([request for request, _ in batch], [results for _, results in batch], seconds)
            began = time.monotonic()

    def close(self) -> None:
        """See Engine."""
        if self._engine is not None:
            self._engine.engine_core.shutdown()
            temporary_folder().cleanup()
        self._engine = None

    def _finished(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[tuple[Request, Results]]:
        """The requests as they finish."""
        generates = self._config.task == "generate"
        pending = dict(self._added_generations(requests) if generates else self._added_continuations(requests))
        scores: dict[int, dict[int, Score]] = {request.record: {} for request in requests}
        try:
            for output in self._outputs(on_token):
                request, number = pending.pop(output.request_id)
                if generates:
                    yield request, [list(each.token_ids) for each in output.outputs]
                    continue
                of_record = scores[request.record]
                of_record[number] = _score(output.prompt_logprobs, output.prompt_token_ids, len(request.ids))
                if len(of_record) == len(request.continuations):
                    yield request, [of_record[each] for each in sorted(of_record)]
        finally:
            if self._engine is not None:
                self._engine.abort_request(list(pending))

    def _outputs(self, on_token: OnToken) -> Iterator[Any]:
        """What vLLM has finished, token by token, until nothing is left."""
        from vllm.v1.engine.exceptions import EngineDeadError

        while self._engine.has_unfinished_requests():
            on_token()
            try:
                outputs = self._engine.step()
            except EngineDeadError as error:
                self._engine = None
                raise TemporaryError(
                    "vLLM ended while it generated",
                    "see what vLLM wrote above it in this rank's log; if it ends so again, set engine: transformers",
                ) from error
            yield from (output for output in outputs if output.finished)

    def _added_generations(self, requests: Sequence[Request]) -> Iterator[tuple[str, tuple[Request, int]]]:
        for request in requests:
            name = str(request.record)
            options = generation_options(self._config.generation, self._ends, request.record)
            self._add(name, request.ids, options)
            yield name, (request, 0)

    def _added_continuations(self, requests: Sequence[Request]) -> Iterator[tuple[str, tuple[Request, int]]]:
        options = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}
        for request in requests:
            for number, continuation in enumerate(request.continuations):
                name = f"{request.record}-{number}"
                self._add(name, [*request.ids, *continuation], options)
                yield name, (request, number)

    def _add(self, name: str, ids: list[int], options: dict[str, Any]) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **options)
        self._engine.add_request(name, {"prompt_token_ids": ids}, parameters)


def generation_options(generation: Generation, ends: list[int], record: int) -> dict[str, Any]:
    """The options of vLLM's `SamplingParams` for a record.

    Args:
        generation: What the job asks for.
        ends: Tokens that end a generation. vLLM's own are ignored: a tokenizer's need not be the model's.
        record: Its global number.
    """
    options: dict[str, Any] = {
        "n": generation.num_return_sequences,
        "max_tokens": generation.max_new_tokens,
        "min_tokens": generation.min_new_tokens or 0,
        "repetition_penalty": generation.repetition_penalty,
        "ignore_eos": True,
        "stop_token_ids": ends,
        # vLLM needs the text to look for stop strings in; they stay in it, as in transformers.
        "detokenize": bool(generation.stop_strings),
        "stop": generation.stop_strings or None,
        "include_stop_str_in_output": bool(generation.stop_strings),
        "skip_special_tokens": False,
    }
    if not generation.do_sample:
        return options | {"temperature": 0.0}
    # vLLM takes seeds of 63 bits.
    return options | sampling_of(generation)._asdict() | {"seed": seed_of(generation.seed, record) >> 1}


def _end_tokens(config: InferConfig, folder: Path) -> list[int]:
    own = GenerationConfig.from_pretrained(folder) if (folder / GENERATION_CONFIG_NAME).is_file() else None
    return end_tokens(own, empty_model(config.model, folder).config, config.generation)


def _score(found: Any, ids: Sequence[int], prompt: int) -> Score:
    """The score of the tokens from `prompt` on, of vLLM's log-probabilities of each token of a text."""
    likelihoods = [found[position][ids[position]].logprob for position in range(prompt, len(ids))]
    return Score(log_likelihood=sum(likelihoods), tokens=len(likelihoods))
