"""Conversations through the model's chat template, and which characters of them the assistant says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

from zerotune_trainer.data.masks import Span
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError, DataError
from zerotune_trainer.input_errors import input_errors

Message = dict[str, Any]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def conversation(value: Any, record: Record, name: str) -> list[Message]:
    """A cell that must be a list of messages; keys that are null, as columnar formats fill them in, are left out.

    Raises:
        DataError: it is something else, or empty.
    """
    if not isinstance(value, list) or not value:
        raise DataError(
            f"{record.location}: column {name!r} is no list of messages", "write [{role: user, content: ...}, ...]"
        )
    return [_message(each, number, record, name) for number, each in enumerate(value)]


def _message(value: Any, number: int, record: Record, name: str) -> Message:
    message = {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else {}
    if "content" in message:
        message["content"] = _joined(message["content"])
    says = isinstance(message.get("content"), str) or ("content" not in message and "tool_calls" in message)
    if not isinstance(message.get("role"), str) or not says:
        raise DataError(
            f"{record.location}: message {number} of column {name!r} has no text as role and content",
            "write {role: user, content: ...}",
        )
    return message


def _joined(content: Any) -> Any:
    """The text of a content that is a list of parts, all of them text; anything else as it is."""
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if _is_text(part)]
    return "\n".join(texts) if texts and len(texts) == len(parts) else content


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


@dataclass(frozen=True)
class Chat:
    """How conversations become text."""

    tokenizer: PreTrainedTokenizerBase
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        template = self.tokenizer.chat_template
        if not template:
            raise ConfigurationError(
                "the records are conversations, and the model's tokenizer has no chat template",
                "set model.chatTemplate, or train on plain text",
            )
        if isinstance(template, dict) and "default" not in template:
            raise ConfigurationError(
                f"the model's tokenizer has chat templates named {', '.join(sorted(template))}, and none named default",
                "set model.chatTemplate to the one to use",
            )

    @property
    def marks_assistant(self) -> bool:
        """Whether the template says itself what the assistant generates: `{% generation %}`."""
        return _GENERATION.search(str(self.tokenizer.chat_template)) is not None

    def with_system(self, messages: list[Message]) -> list[Message]:
        """The conversation with the system prompt before it, where it has none of its own."""
        if self.system_prompt is None or any(message["role"] == "system" for message in messages):
            return messages
        return [{"role": "system", "content": self.system_prompt}, *messages]

    def render(self, messages: list[Message], record: Record, *, add_generation_prompt: bool = False) -> str:
        """The conversation as text, with the special tokens the template writes and no others.

        Raises:
            DataError: the template refuses the conversation.
            ConfigurationError: the template cannot be read.
        """
        text = self._apply(messages, record, tokenize=False, add_generation_prompt=add_generation_prompt)
        return str(text)

    def marked(
        self, messages: list[Message], record: Record, *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[int]]:
        """Token ids of the conversation, and 1 for each that stands between the template's generation marks, else 0."""
        encoded = self._apply(
            messages,
            record,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            add_generation_prompt=add_generation_prompt,
        )
        return encoded["input_ids"], encoded["assistant_masks"]

    def assistant_spans(self, messages: list[Message], record: Record) -> list[Span]:
        """What the assistant says, by rendering the conversation up to each of its turns and including it.

        White space that ends a turn is the template's and left out.

        Raises:
            ConfigurationError: the template renders a turn differently when others follow it.
        """
        whole = self.render(messages, record)
        turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        return [self._span(whole, messages, turn, record) for turn in turns]

    def _span(self, whole: str, messages: list[Message], turn: int, record: Record) -> Span:
        before = self.render(messages[:turn], record, add_generation_prompt=True) if turn else ""
        through = self.render(messages[: turn + 1], record)
        if not (through.startswith(before) and whole.startswith(through)):
            raise ConfigurationError(
                f"{record.location}: the chat template renders message {turn} differently when others follow, so what "
                "the assistant says cannot be told",
                "put {% generation %} ... {% endgeneration %} around it in model.chatTemplate",
            )
        return len(before), len(before) + len(through[len(before) :].rstrip())

    def _apply(self, messages: Sequence[Message], record: Record, **options: Any) -> Any:
        hint = "change the conversation, or set model.chatTemplate"
        with input_errors(DataError, f"{record.location}: the chat template refuses it", hint):
            try:
                return self.tokenizer.apply_chat_template(list(messages), **options)
            except TemplateSyntaxError as error:
                raise ConfigurationError(
                    f"the chat template cannot be read: {error}", "mend model.chatTemplate"
                ) from error
