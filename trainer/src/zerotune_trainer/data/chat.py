"""Conversations through the model's chat template, and which characters of them the assistant writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jinja2 import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from zerotune_trainer.data.masks import Span
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.template_arguments import TemplateArguments, without_nulls
from zerotune_trainer.data.time_limit import time_limit
from zerotune_trainer.errors import ConfigurationError, DataError
from zerotune_trainer.input_errors import input_errors

Message = dict[str, Any]

_CLOCK = "strftime_now"
_CLOCK_CALL = re.compile(rf"""{_CLOCK}\s*\(\s*(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)""")
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
    message: Message = without_nulls(value) if isinstance(value, dict) else {}
    if "content" in message:
        message["content"] = _joined(message["content"])
    has_content = isinstance(message.get("content"), str) or ("content" not in message and "tool_calls" in message)
    if not isinstance(message.get("role"), str) or not has_content:
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


def assistant_turns(messages: list[Message]) -> list[int]:
    """Which messages are of the assistant."""
    return [number for number, message in enumerate(messages) if message["role"] == "assistant"]


def reads_clock(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a chat template of the tokenizer asks for the time."""
    return _CLOCK in str(tokenizer.chat_template)


@dataclass(frozen=True)
class Chat:
    """How conversations become text."""

    tokenizer: PreTrainedTokenizerBase
    system_prompt: str | None = None
    arguments: TemplateArguments = field(default_factory=TemplateArguments)
    created: datetime | None = None
    """When the job was created. A template that asks for the time (`strftime_now`) gets this, in UTC: the same job
    makes the same text on every host, on every day."""

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
        """Whether the template itself marks what the assistant generates: `{% generation %}`."""
        return _GENERATION.search(str(self.tokenizer.chat_template)) is not None

    def with_system(self, messages: list[Message]) -> list[Message]:
        """The conversation with the system prompt before it, where it has none of its own."""
        if self.system_prompt is None or any(message["role"] == "system" for message in messages):
            return messages
        return [{"role": "system", "content": self.system_prompt}, *messages]

    def render(self, messages: list[Message], record: Record, *, add_generation_prompt: bool = False) -> str:
        """The conversation as text, with the special tokens the template writes and no others.

        Raises:
            DataError: the template rejects the conversation.
            ConfigurationError: the template cannot be read.
        """
        with self._border(record):
            arguments = self.arguments.of(record)
            text = self.tokenizer.apply_chat_template(
                list(messages),
                chat_template=self._template(arguments, record),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **arguments,
            )
        return str(text)

    def marked(
        self, messages: list[Message], record: Record, *, add_generation_prompt: bool = False
    ) -> tuple[str, list[Span]]:
        """The conversation as text, and what of it stands between the template's generation marks.

        As spans of the text: transformers' own mask asks for the tokens of a span's first and last character, which
        are not there, or not all of them, where a normalizer changed the one or several tokens make up the other.
        """
        with self._border(record):
            arguments = self.arguments.of(record)
            rendered: Any = render_jinja_template(
                [list(messages)],
                chat_template=self._template(arguments, record),
                return_assistant_tokens_mask=True,
                add_generation_prompt=add_generation_prompt,
                **{**self.tokenizer.special_tokens_map, **arguments},
            )
        [text], [spans] = rendered
        return text, [(begin, end) for begin, end in spans]

    def assistant_spans(self, messages: list[Message], record: Record) -> list[Span]:
        """What the assistant writes, by rendering the conversation up to each of its turns and including it.

        White space that ends a turn is the template's and left out.

        Raises:
            ConfigurationError: the template renders a turn differently when others follow it.
        """
        whole = self.render(messages, record)
        return [self._span(whole, messages, turn, record) for turn in assistant_turns(messages)]

    def _span(self, whole: str, messages: list[Message], turn: int, record: Record) -> Span:
        before = self.render(messages[:turn], record, add_generation_prompt=True) if turn else ""
        through = self.render(messages[: turn + 1], record)
        if not (through.startswith(before) and whole.startswith(through)):
            raise ConfigurationError(
                f"{record.location}: the chat template renders message {turn} differently when others follow, so what "
                "the assistant writes cannot be found",
                "put {% generation %} ... {% endgeneration %} around it in model.chatTemplate",
            )
        return len(before), len(before) + len(through[len(before) :].rstrip())

    def _template(self, arguments: dict[str, Any], record: Record) -> str:
        """The template that these arguments are for; it reads all of them."""
        template = self.tokenizer.get_chat_template(tools=arguments.get("tools"))
        for name in arguments:
            if not re.search(rf"\b{re.escape(name)}\b", template):
                raise ConfigurationError(
                    f"{record.location}: the chat template does not read {name!r}, which the record or "
                    "data.chatTemplateKwargs gives",
                    "leave it out, or set a model.chatTemplate that reads it",
                )
        return template if _CLOCK not in template else self._at_creation(template)

    def _at_creation(self, template: str) -> str:
        """A template that asks for the time with the answer written in: transformers lets nobody answer otherwise."""
        if self.created is None:
            raise ConfigurationError(
                f"the chat template asks for the time ({_CLOCK}), and config.json does not say when the job was "
                "created",
                'zerotune run and the operator fill job.created in; here add "created": "2030-01-31T12:00:00Z" to its '
                "part job, or set a model.chatTemplate that does without",
            )
        created = self.created.astimezone(UTC)
        fixed = _CLOCK_CALL.sub(lambda call: json.dumps(created.strftime(call["format"])), template)
        if f"{_CLOCK}(" in fixed:
            raise ConfigurationError(
                f"the chat template asks for the time in a format that it works out: {_CLOCK}",
                "set a model.chatTemplate that names the format, as in strftime_now('%d %b %Y')",
            )
        return fixed

    @contextmanager
    def _border(self, record: Record) -> Iterator[None]:
        hint = "change the conversation, or set model.chatTemplate"
        with input_errors(DataError, f"{record.location}: the chat template rejects it", hint):
            try:
                with time_limit():
                    yield
            except TemplateSyntaxError as error:
                raise ConfigurationError(
                    f"the chat template cannot be read: {error}", "mend model.chatTemplate"
                ) from error
