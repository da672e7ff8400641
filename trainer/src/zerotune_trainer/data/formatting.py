"""A record as the text or the token ids that are trained on, and what of it counts in the loss."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config.data import Data
from zerotune_trainer.data.chat import Chat, conversation
from zerotune_trainer.data.columns import Layout, RecordColumns, text_of
from zerotune_trainer.data.encoding import Encoder
from zerotune_trainer.data.labels import IGNORE_INDEX, labels_of
from zerotune_trainer.data.masks import Span, Template, answers
from zerotune_trainer.data.padding import unpadded
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.template_arguments import TemplateArguments
from zerotune_trainer.data.weights import check_unweighted, weighted
from zerotune_trainer.errors import ConfigurationError, DataError

Loss = Literal["all", "completion", "assistant"]


@dataclass(frozen=True)
class Text:
    """Text to tokenize. `spans` count in the loss, all of it where None. A `document` gets BOS and EOS."""

    text: str
    spans: list[Span] | None = None
    document: bool = False


@dataclass(frozen=True)
class Tokens:
    """Token ids and labels, of one length."""

    ids: list[int]
    labels: list[int]


class Formatter:
    """Makes text or tokens of records that all hold the same."""

    def __init__(
        self,
        data: Data,
        tokenizer: PreTrainedTokenizerBase,
        columns: RecordColumns,
        created: datetime | None = None,
    ) -> None:
        """Decide how.

        Raises:
            ConfigurationError: `data.loss` or a template does not go with what the records hold.
        """
        self.data = data
        self.columns = columns
        self.encoder = Encoder(tokenizer)
        self.loss = data.loss or ("completion" if columns.layout == "prompt_completion" else "all")
        _check_loss(self.loss, columns.layout)
        _check_templates(data, self.loss, columns.layout)
        if columns.layout == "text":
            _check_plain(data, "the records are plain text")
        if columns.layout == "tokens":
            _check_plain(data, "the records are tokens already")
        self._tokenizer = tokenizer
        self._created = created

    @cached_property
    def chat(self) -> Chat:
        """How conversations become text.

        Raises:
            ConfigurationError: the tokenizer has no chat template.
        """
        arguments = TemplateArguments(self.data.chat_template_kwargs, self.data.columns.tools)
        return Chat(self._tokenizer, self.data.system_prompt, arguments, self._created)

    def __call__(self, record: Record) -> Text | Tokens:
        """Make one.

        Raises:
            InputMissingError: a column is not there.
            DataError: a cell does not hold what it should, or nothing of the record counts in the loss.
        """
        cells = self.columns.cells(record)
        match self.columns.layout:
            case "tokens":
                return self._tokens(cells[0], record)
            case "text":
                return self._text(text_of(cells[0], record, self.columns.names[0]), record)
            case "messages":
                return self._messages(conversation(cells[0], record, self.columns.names[0]), record)
            case "prompt_completion":
                return self._pair(cells[0], cells[1], record)

    def _tokens(self, ids: Any, record: Record) -> Tokens:
        labels = record.values.get("labels")
        if labels is None and self.loss != "all":
            raise ConfigurationError(
                f"{record.location}: tokenized records without labels do not go with data.loss: {self.loss}",
                "add a column `labels` with -100 where no loss is wanted",
            )
        size = len(self._tokenizer)
        ids = _checked_ids(ids, size, record, "input_ids")
        labels = ids if labels is None else _checked_ids(labels, size, record, "labels")
        if len(labels) != len(ids):
            raise DataError(f"{record.location}: {len(ids)} input_ids and {len(labels)} labels", "give a label a token")
        if (mask := record.values.get("attention_mask")) is not None:
            kept = unpadded(mask, len(ids), record)
            ids, labels = [ids[place] for place in kept], [labels[place] for place in kept]
        return Tokens(ids, labels)

    def _text(self, text: str, record: Record) -> Text | Tokens:
        response, instruction = _templates(self.data)
        if response is None:
            return Text(text, document=True)
        if isinstance(response, str):
            spans = answers(text, response, instruction)
            return Text(text, _some(spans, record), document=True)
        ids = self.encoder.document(text)
        spans = _some(answers(ids, response, instruction), record)
        return Tokens(ids, labels_of(ids, spans))

    def _messages(self, messages: list[dict[str, Any]], record: Record) -> Text | Tokens:
        messages = self.chat.with_system(messages)
        prompts = self.data.add_generation_prompt
        if self.loss == "all":
            check_unweighted(messages, record)
            return Text(self.chat.render(messages, record, add_generation_prompt=prompts))
        if self.chat.marks_assistant:
            text, spans = self.chat.marked(messages, record, add_generation_prompt=prompts)
        else:
            text = self.chat.render(messages, record, add_generation_prompt=prompts)
            spans = self.chat.assistant_spans(messages, record)
        return Text(text, _some(weighted(spans, messages, record), record))

    def _pair(self, prompt: Any, completion: Any, record: Record) -> Text | Tokens:
        names = self.columns.names
        if isinstance(prompt, list) and isinstance(completion, list):
            begin = conversation(prompt, record, names[0])
            return self._dialogue(begin, conversation(completion, record, names[1]), record)
        if self.loss == "assistant":
            raise ConfigurationError(
                f"{record.location}: data.loss: assistant needs conversations, and prompt and completion are text",
                "use data.loss: completion",
            )
        _check_plain(self.data, f"{record.location}: prompt and completion are plain text")
        return self._plain_pair(text_of(prompt, record, names[0]), text_of(completion, record, names[1]))

    def _plain_pair(self, prompt: str, completion: str) -> Tokens:
        # The prompt's tokens are those that generation will see, also where text and completion would share a token.
        opening = self.encoder.opening(prompt)
        whole = self.encoder.document(prompt + completion)
        if whole[: len(opening)] != opening:
            whole = self.encoder.closed(opening + self.encoder.continuation(completion))
        begin = len(opening) if self.loss == "completion" else 0
        return Tokens(whole, labels_of(whole, [(begin, len(whole))]))

    def _dialogue(
        self, prompt: list[dict[str, Any]], completion: list[dict[str, Any]], record: Record
    ) -> Text | Tokens:
        if self.loss != "completion":
            return self._messages(prompt + completion, record)
        messages = self.chat.with_system(prompt + completion)
        check_unweighted(messages, record)
        begin = messages[: len(messages) - len(completion)]
        answered = begin[-1]["role"] == "assistant"
        before = self.chat.render(begin, record, add_generation_prompt=not answered)
        through = self.chat.render(messages, record)
        whole = self.chat.render(messages, record, add_generation_prompt=self.data.add_generation_prompt)
        if not (whole.startswith(through) and through.startswith(before)):
            raise ConfigurationError(
                f"{record.location}: the chat template renders the prompt differently when the completion follows",
                "use a column of messages with data.loss: assistant, or another model.chatTemplate",
            )
        return Text(whole, [(len(before), len(through))])


def _some(spans: list[Span], record: Record) -> list[Span]:
    if spans:
        return spans
    raise DataError(
        f"{record.location}: nothing of the record counts in the loss: it has no answer of the assistant",
        "check data.responseTemplate and the roles, or remove the record",
    )


def _checked_ids(ids: Any, size: int, record: Record, name: str) -> list[int]:
    """A cell that must hold token ids of the tokenizer, or labels."""
    if not isinstance(ids, list) or not ids:
        raise DataError(
            f"{record.location}: column {name!r} holds {ids!r:.80} where a list of token ids is wanted",
            "write a whole number for each token",
        )
    for token in ids:
        if not _is_id(token, size) and (name, token) != ("labels", IGNORE_INDEX):
            raise DataError(
                f"{record.location}: {token!r:.80} in {name} is no token of the model's tokenizer (0 to {size - 1})",
                "tokenize with the tokenizer of this model",
            )
    return ids


def _is_id(token: Any, size: int) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and 0 <= token < size


def _check_loss(loss: Loss, layout: Layout) -> None:
    if loss == "completion" and layout in ("text", "messages"):
        raise ConfigurationError(
            f"data.loss: completion needs columns prompt and completion, and the records hold {layout}",
            "use data.loss: assistant, or name the two columns",
        )


def _check_plain(data: Data, what: str) -> None:
    if data.system_prompt is not None or data.add_generation_prompt or data.chat_template_kwargs:
        raise ConfigurationError(
            f"{what}, and data.systemPrompt, addGenerationPrompt and chatTemplateKwargs are for conversations",
            "leave them out, or give the records as messages",
        )


def _templates(data: Data) -> tuple[Template | None, Template | None]:
    """What begins an answer, and what ends it: both as text or both as token ids."""
    if data.response_template_ids is not None:
        return data.response_template_ids, data.instruction_template_ids
    return data.response_template, data.instruction_template


def _check_templates(data: Data, loss: Loss, layout: Layout) -> None:
    response, instruction = _templates(data)
    if response is None and instruction is None:
        if loss == "assistant" and layout == "text":
            raise ConfigurationError(
                "data.loss: assistant with plain text needs data.responseTemplate",
                "set it, or responseTemplateIds",
            )
        return
    if loss != "assistant" or layout not in ("text", "tokens"):
        raise ConfigurationError(
            f"data.responseTemplate goes with data.loss: assistant and plain text, not with {loss} and {layout}",
            "leave the templates out, or change data.loss",
        )
