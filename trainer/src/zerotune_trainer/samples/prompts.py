"""The prompts that a model in training is given, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.data import Columns
from zerotune_trainer.config.generation import InferenceData, longest_prompt
from zerotune_trainer.config.text_evaluation import SampleColumns, TextEvaluation
from zerotune_trainer.data.processing import load_processing
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.records import read_records
from zerotune_trainer.errors import DataError
from zerotune_trainer.inference.prompts import Prompts


@dataclass(frozen=True)
class SamplePrompt:
    """A prompt, and the text that the model had best generate for it, where there is one."""

    record: str
    """`FILE:LINE`."""
    text: str
    ids: list[int]
    reference: str | None


def read_prompts(
    config: TrainConfig, settings: TextEvaluation, tokenizer: PreTrainedTokenizerBase, model: PretrainedConfig
) -> list[SamplePrompt]:
    """The prompts of the first records, rendered as an InferenceJob does.

    Raises:
        DataError: a prompt is too long for the model, a record has no reference where metrics want one, or is bad.
        InputMissingError: there are no such records, or they have no column with a prompt.
        ConfigurationError: the model's context is too short for what is generated, or there is no chat template.
    """
    source = settings.data or config.data.validation
    assert source is not None, "validation asks for one of the two"
    process = load_processing(config.plugin)
    columns = _columns(config, settings)
    records = islice(read_records(source, Path(config.launch.cache_dir)), settings.max_samples)
    pairs = [_divided(process(record), columns, needs_reference=bool(settings.metrics)) for record in records]
    prompts = _prompts(config, columns, tokenizer, model, [record for record, _ in pairs])
    texts = [prompts.text(record) for record, _ in pairs]
    found = [
        SamplePrompt(record.location, text, ids, reference)
        for (record, reference), text, ids in zip(pairs, texts, prompts.tokens(texts), strict=True)
    ]
    for prompt in found:
        if problem := prompts.problem(prompt.ids):
            raise DataError(
                f"{prompt.record}: {problem}", "shorten it, lower evaluation.generation.maxNewTokens, or remove it"
            )
    return found


def _columns(config: TrainConfig, settings: TextEvaluation) -> SampleColumns:
    of_data = config.data.columns
    return settings.columns or SampleColumns(
        prompt=of_data.prompt,
        completion=of_data.completion or of_data.chosen,
        messages=of_data.messages,
        tools=of_data.tools,
    )


def _prompts(
    config: TrainConfig,
    columns: SampleColumns,
    tokenizer: PreTrainedTokenizerBase,
    model: PretrainedConfig,
    sample: list[Record],
) -> Prompts:
    text_config, settings = model.get_text_config(), config.evaluation.generation
    assert settings is not None, "there are prompts"
    named = Columns(prompt=columns.prompt, messages=columns.messages, tools=columns.tools)
    is_chat = any(isinstance(record.values.get(name), list) for record in sample for name in _prompt_columns(columns))
    data = InferenceData(
        columns=named,
        system_prompt=config.data.system_prompt if is_chat else None,
        chat_template_kwargs=config.data.chat_template_kwargs if is_chat else {},
    )
    context = getattr(text_config, "max_position_embeddings", None)
    longest = longest_prompt(data, context, settings.max_new_tokens)
    embeddings = None if config.model.resize_embeddings else getattr(text_config, "vocab_size", None)
    return Prompts(data, tokenizer, sample, longest, embeddings, config.job.created)


def _prompt_columns(columns: SampleColumns) -> list[str]:
    named = columns.messages or columns.prompt
    return [named] if named else ["messages", "prompt"]


def _divided(record: Record, columns: SampleColumns, *, needs_reference: bool) -> tuple[Record, str | None]:
    """A record without the answer, and the answer."""
    values = record.values
    messages = columns.messages or ("messages" if "messages" in values and columns.prompt is None else None)
    if messages is not None and isinstance(values.get(messages), list):
        prompt, reference = _conversation(values[messages])
        record = record._replace(values=values | {messages: prompt})
    else:
        name = columns.completion or ("chosen" if "chosen" in values else "completion")
        reference = _text(values.get(name))
    if needs_reference and not reference:
        raise DataError(
            f"{record.location}: the record has no answer that a generated text could be compared with",
            "name it as columns.completion of evaluation.generation, end the messages with the assistant, or leave "
            "evaluation.generation.metrics out",
        )
    return record, reference


def _conversation(messages: list[Any]) -> tuple[list[Any], str | None]:
    last = messages[-1] if messages else None
    if isinstance(last, dict) and last.get("role") == "assistant":
        return messages[:-1], _text(last.get("content"))
    return messages, None


def _text(answer: Any) -> str | None:
    """An answer as text: that of its last message, where it is a list of them."""
    if isinstance(answer, list) and answer and isinstance(answer[-1], dict):
        answer = answer[-1].get("content")
    return answer if isinstance(answer, str) else None
