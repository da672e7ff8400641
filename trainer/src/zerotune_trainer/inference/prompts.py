"""From a record to the token ids of its prompt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config.generation import InferenceData
from zerotune_trainer.counting import counted
from zerotune_trainer.data.chat import Chat, Message, conversation
from zerotune_trainer.data.columns import RecordColumns, did_you_mean, text_of
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.template_arguments import TemplateArguments
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError
from zerotune_trainer.inference.template import RecordTemplate

_log = logging.getLogger(__name__)


class Prompts:
    """Makes prompts as the spec says: a template over the columns, a prompt column, or a column of messages."""

    def __init__(
        self,
        data: InferenceData,
        tokenizer: PreTrainedTokenizerBase,
        sample: Sequence[Record],
        longest: int | None,
        embeddings: int | None = None,
        created: datetime | None = None,
    ) -> None:
        """Decide how, from the first records.

        Args:
            data: What the job says about prompts.
            tokenizer: The model's.
            sample: The first records. They show which columns there are, and whether a column holds conversations.
            longest: Most tokens a prompt may have; None: any number.
            embeddings: Tokens that the model has an embedding for; None: for all of the tokenizer's.
            created: When the job was created, see `Chat`.

        Raises:
            InputMissingError: none of the first records has the column, or a variable of the template.
            ConfigurationError: the template cannot be read, or there is no chat template where one is needed.
        """
        self._tokenizer = tokenizer
        self._longest = longest
        self._embeddings = embeddings
        self._had_two_bos = False
        self._truncates = data.overflow == "truncate"
        self._template = RecordTemplate(data.template, sample) if data.template is not None else None
        self._column = _column(data, sample) if self._template is None else "template"
        holds_conversations = self._template is None and _holds_conversations(self._column, sample)
        self._is_question = not holds_conversations
        is_chat = data.apply_chat_template or holds_conversations
        arguments = TemplateArguments(data.chat_template_kwargs, data.columns.tools)
        self._chat = Chat(tokenizer, data.system_prompt, arguments, created) if is_chat else None
        if data.chat_template_kwargs and not is_chat:
            raise ConfigurationError(
                f"data.chatTemplateKwargs are for conversations, and the column {self._column!r} holds plain text",
                "set data.applyChatTemplate: true, or leave data.chatTemplateKwargs out",
            )
        if data.system_prompt is not None and not is_chat:
            raise ConfigurationError(
                f"data.systemPrompt opens conversations, and the column {self._column!r} holds plain text",
                "set data.applyChatTemplate: true, or leave data.systemPrompt out",
            )

    def text(self, record: Record) -> str:
        """The prompt as text, special tokens of a chat template included.

        Raises:
            InputMissingError: the record lacks the column.
            DataError: the column holds something else, or the template does not cope with the record.
        """
        if self._chat is None:
            text = self._plain(record)
        else:
            text = self._chat.render(self._conversation(record, self._chat), record, add_generation_prompt=True)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(f"{record.location}: the prompt is not Unicode: it holds half of a surrogate pair")
        return text

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts, tokenized together; where the spec says so, too long a one loses its beginning."""
        rows = self.encode(texts)
        return [row[-self._longest :] for row in rows] if self._longest and self._truncates else rows

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, however long, tokenized together."""
        if not texts:
            return []
        # A chat template writes the special tokens itself.
        encoded = self._tokenizer(list(texts), add_special_tokens=self._chat is None, return_attention_mask=False)
        return [self._with_one_bos(row) for row in encoded["input_ids"]]

    def excess(self, tokens: int) -> int:
        """By how much so many tokens are too many; 0 or less where they are not."""
        return 0 if self._longest is None else tokens - self._longest

    def _with_one_bos(self, ids: list[int]) -> list[int]:
        """A text may begin with the token that the tokenizer puts before every text: the model has never seen two."""
        if ids[:2] != [self._tokenizer.bos_token_id] * 2:
            return ids
        if not self._had_two_bos:
            self._had_two_bos = True
            _log.warning(
                "prompts begin with %s, which the tokenizer adds itself: it is there once", self._tokenizer.bos_token
            )
        return ids[1:]

    def problem(self, ids: Sequence[int], subject: str = "the prompt has") -> str:
        """Why nothing can be done with these tokens, said of `subject`; empty where it can."""
        if not ids:
            return f"{subject} no token"
        if self._longest is not None and len(ids) > self._longest:
            return f"{subject} {counted(len(ids), 'token')}, at most {self._longest} fit"
        if self._embeddings is not None and max(ids) >= self._embeddings:
            return f"{subject} token {max(ids)}, and the model has embeddings for {self._embeddings} tokens"
        return ""

    def _plain(self, record: Record) -> str:
        if self._template is None:
            [value] = RecordColumns("text", (self._column,)).cells(record)
        else:
            value = self._template.render(record)
        return text_of(value, record, self._column)

    def _conversation(self, record: Record, chat: Chat) -> list[Message]:
        if self._is_question:
            return chat.with_system([{"role": "user", "content": self._plain(record)}])
        [value] = RecordColumns("messages", (self._column,)).cells(record)
        messages = conversation(value, record, self._column)
        if messages[-1]["role"] == "assistant":
            raise DataError(f"{record.location}: the conversation ends with the assistant: there is nothing to answer")
        return chat.with_system(messages)


def _column(data: InferenceData, sample: Sequence[Record]) -> str:
    """The column with the prompts: the one that is named, else `messages` or `prompt`, whichever is there."""
    named = data.columns.text or data.columns.messages or data.columns.prompt
    wanted = [named] if named else ["messages", "prompt"]
    for column in wanted:
        if not sample or any(column in record.values for record in sample):
            return column
    raise InputMissingError(
        f"the records have no column {' or '.join(map(repr, wanted))}",
        did_you_mean(wanted[-1], _columns(sample)) + "; name it as data.columns.prompt or .messages",
    )


def _holds_conversations(column: str, sample: Sequence[Record]) -> bool:
    values = [value for record in sample if (value := record.values.get(column)) is not None]
    return bool(values) and isinstance(values[0], list)


def _columns(sample: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in sample for name in record.values))
