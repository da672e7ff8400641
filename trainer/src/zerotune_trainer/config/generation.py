"""How an InferenceJob reads, prompts and generates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from zerotune_trainer.config.base import JsonObject, Number, Rule, Settings
from zerotune_trainer.config.data import Columns, Records
from zerotune_trainer.config.sources import SecretReference
from zerotune_trainer.errors import ConfigurationError

Engine = Literal["auto", "transformers", "deepspeed", "zero", "vllm"]
Task = Literal["generate", "score", "embed"]


class Embedding(Settings):
    """How the vector of a text is made, for task `embed`."""

    pooling: Literal["mean", "lastToken"] = "mean"
    """Which of the last hidden states the vector is: the mean of all tokens', or that of the last one, which alone has
    seen all others. For what to choose see the model: mean where it was trained on text alone."""
    normalize: bool = True
    """Scale the vector to length 1, so that the scalar product of two is their cosine similarity."""


class InferenceData(Records):
    """Records to run the model over."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *Records.rules,
        Rule(
            "!has(self.template) || !has(self.columns.prompt) && !has(self.columns.messages)",
            "template makes the prompt out of the record: leave out columns.prompt and columns.messages, or template",
            "template",
        ),
        Rule(
            "!has(self.systemPrompt) || !has(self.template) || self.applyChatTemplate",
            "systemPrompt opens conversations: set applyChatTemplate: true, or leave systemPrompt out",
            "systemPrompt",
        ),
        Rule(
            "!has(self.columns.messages) || !self.applyChatTemplate",
            "applyChatTemplate is for prompts that are text, and columns.messages holds conversations: leave "
            "applyChatTemplate out, or name the column prompt",
            "applyChatTemplate",
        ),
        Rule(
            "!has(self.columns.tools) || !has(self.template) || self.applyChatTemplate",
            "columns.tools is for conversations: set applyChatTemplate: true, or leave columns.tools out",
            "columns.tools",
        ),
    )

    columns: Columns = Columns()
    """Column with the `prompt`, or with the `messages`. Left out: whichever of the two the records have. For
    tasks `score` and `embed` also the column with the `text`, for `score` that with the `completion` behind the
    `prompt`."""
    template: str | None = Field(default=None, max_length=65536)
    """A Jinja template that makes the prompt from a record's columns: `Summarize: {{ description }}`."""
    system_prompt: str | None = None
    """A system message put before conversations that have none."""
    chat_template_kwargs: JsonObject = Field(default={})
    """Further variables of the chat template, such as `enable_thinking: false`. A record's own, in a column
    `chat_template_kwargs`, win. One that the template does not read is an error."""
    apply_chat_template: bool = False
    """Put text prompts through the model's chat template as one user message."""
    max_length: int | None = Field(default=None, ge=1)
    """Longest prompt in tokens. Default: the model's context less `maxNewTokens`. For task `score` the longest text, or
    prompt with its completion. Default: the model's context."""
    overflow: Literal["error", "truncate"] = "error"
    """A prompt that is too long: a record with an `error`, or cut on the left."""
    credentials: SecretReference | None = None
    """Secret with the keys that reading the data takes."""


class Generation(Settings):
    """Generation options, named and defaulted as in transformers' GenerationConfig."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.minNewTokens) || self.minNewTokens <= self.maxNewTokens",
            "minNewTokens must not exceed maxNewTokens",
            "minNewTokens",
        ),
        Rule(
            "self.doSample || !has(self.temperature)",
            "temperature has no effect without sampling: set doSample: true, or leave temperature out",
            "temperature",
        ),
        Rule(
            "self.doSample || !has(self.topP)",
            "topP has no effect without sampling: set doSample: true, or leave topP out",
            "topP",
        ),
        Rule(
            "self.doSample || !has(self.topK) || has(self.penaltyAlpha)",
            "topK has no effect without doSample: true or penaltyAlpha: set one of them, or leave topK out",
            "topK",
        ),
        Rule(
            "self.doSample || self.seed == 42",
            "seed has no effect without sampling: set doSample: true, or leave seed out",
            "seed",
        ),
        Rule(
            "!has(self.penaltyAlpha) || self.penaltyAlpha == 0.0 "
            "|| !self.doSample && self.numBeams == 1 && (!has(self.topK) || self.topK > 1) && self.useCache",
            "penaltyAlpha is for contrastive search: topK above 1, numBeams 1, doSample false and useCache true",
            "penaltyAlpha",
        ),
        Rule(
            "self.numBeams % self.numBeamGroups == 0",
            "numBeams must be a multiple of numBeamGroups",
            "numBeamGroups",
        ),
        Rule(
            "self.numBeamGroups == 1 || !self.doSample",
            "groups of beams do not sample: set doSample: false or numBeamGroups: 1",
            "numBeamGroups",
        ),
        Rule(
            "(self.numBeamGroups > 1) == (self.diversityPenalty > 0.0)",
            "numBeamGroups above 1 and diversityPenalty above 0 go together: set both or neither",
            "diversityPenalty",
        ),
        Rule(
            "self.numBeams > 1 || !self.earlyStopping",
            "earlyStopping is about beams: set numBeams above 1, or leave earlyStopping out",
            "earlyStopping",
        ),
        Rule(
            "self.numBeams > 1 || self.lengthPenalty == 1.0",
            "lengthPenalty is about beams: set numBeams above 1, or leave lengthPenalty out",
            "lengthPenalty",
        ),
        Rule(
            "self.numReturnSequences <= self.numBeams || self.doSample && self.numBeams == 1",
            "there are as many generations as beams: set numBeams to at least numReturnSequences, or sample",
            "numReturnSequences",
        ),
    )

    max_new_tokens: int = Field(default=256, ge=1)
    """Most tokens generated for a record."""
    min_new_tokens: int | None = Field(default=None, ge=0)
    """Fewest tokens generated for a record."""
    do_sample: bool = False
    """Sample instead of taking the likeliest token."""
    temperature: Number | None = Field(default=None, gt=0)
    """Sampling temperature. Without randomness: `doSample: false`. Default: 1.0."""
    top_k: int | None = Field(default=None, ge=0)
    """Sample among the k likeliest tokens; 0: among all. Default: 50."""
    top_p: Number | None = Field(default=None, gt=0, le=1)
    """Sample among the likeliest tokens whose probabilities add up to this. Default: 1.0."""
    num_beams: int = Field(default=1, ge=1)
    """Beams of beam search."""
    num_beam_groups: int = Field(default=1, ge=1)
    """Groups of diverse beam search."""
    diversity_penalty: Number = Field(default=0.0, ge=0)
    """Penalty on a token that another beam group chose at the same position."""
    penalty_alpha: Number | None = Field(default=None, ge=0, le=1)
    """Degeneration penalty of contrastive search, which `topK` > 1 goes with."""
    repetition_penalty: Number = Field(default=1.0, gt=0)
    """Penalty on tokens already there; 1: none."""
    length_penalty: Number = 1.0
    """Exponent on length in a beam's score."""
    no_repeat_ngram_size: int = Field(default=0, ge=0)
    """No run of this many tokens occurs twice; 0: allowed."""
    early_stopping: bool = False
    """Beam search ends as soon as there are `numBeams` finished candidates."""
    use_cache: bool = True
    """Keep keys and values of past tokens."""
    eos_token_ids: list[int] = Field(default=[], max_length=256)
    """Token ids that end a generation, besides the model's own."""
    stop_strings: list[Annotated[str, StringConstraints(min_length=1)]] = Field(default=[], max_length=256)
    """Texts that end a generation."""
    skip_special_tokens: bool = True
    """Leave special tokens out of the text."""
    num_return_sequences: int = Field(default=1, ge=1)
    """Generations a record gets."""
    seed: int = Field(default=42, ge=0)
    """Seeds sampling; the same job gives the same texts, also after a restart."""


class InferenceOutputFormat(Settings):
    """Shape of an InferenceJob's output files."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.generationColumn != self.errorColumn",
            "generationColumn and errorColumn are two columns: give them two names",
            "errorColumn",
        ),
    )

    format: Literal["auto", "jsonl", "parquet"] = "auto"
    """Format of the output. `auto`: that of the input where it can be written, else jsonl."""
    generation_column: str = Field(default="generation", min_length=1)
    """Column that receives the text; the input's columns stay beside it. With `numReturnSequences` > 1: a list. For
    task `score`: an object with `logLikelihood` (nats), `tokens` and `perplexity` (null beyond 1e308), or with `label`,
    `probabilities` and `logLikelihoods`. For task `embed`: a list of numbers, as many as the model's hidden size."""
    error_column: str = Field(default="error", min_length=1)
    """Column that says why a record has no text. Parquet always has it, jsonl only where it says something."""
    rows_per_file: int = Field(default=1000, ge=1)
    """Rows an output file holds at most. A file is also what a rank draws; what it has generated of one is kept every
    30 seconds and on a stop."""


def longest_prompt(data: InferenceData, context_length: int | None, max_new_tokens: int) -> int | None:
    """Most tokens of a prompt: `data.maxLength`, else what `maxNewTokens` leaves of the model's context.

    Raises:
        ConfigurationError: prompt and generation together do not fit into the context.
    """
    if context_length is None:
        return data.max_length
    room = context_length - max_new_tokens
    if room < 1:
        raise ConfigurationError(
            f"generation.maxNewTokens {max_new_tokens} leaves no token for a prompt in the model's context of "
            f"{context_length} tokens",
            f"set generation.maxNewTokens to less than {context_length}",
        )
    if (data.max_length or 0) > room:
        raise ConfigurationError(
            f"prompts of {data.max_length} tokens and generation.maxNewTokens {max_new_tokens} do not fit into "
            f"the model's context of {context_length} tokens",
            f"lower data.maxLength or generation.maxNewTokens: together at most {context_length}",
        )
    return data.max_length or room


def check_end_tokens(generation: Generation, vocabulary: int) -> None:
    """See that the model has the tokens that are to end a generation.

    Raises:
        ConfigurationError: it does not have one.
    """
    check_tokens("generation.eosTokenIds", generation.eos_token_ids, vocabulary)


def check_tokens(field: str, tokens: Sequence[int], vocabulary: int) -> None:
    """See that the model has the tokens that a field names.

    Raises:
        ConfigurationError: it does not have one.
    """
    for token in tokens:
        if not 0 <= token < vocabulary:
            raise ConfigurationError(
                f"{field}: {token} is not a token of the model, which has {vocabulary}",
                f"give ids from 0 to {vocabulary - 1}",
            )
