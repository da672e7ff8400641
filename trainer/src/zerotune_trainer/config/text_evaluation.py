"""`evaluation.generation`: texts that the model generates at each evaluation, and how they are measured."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from zerotune_trainer.config.base import Rule, Settings, each_once
from zerotune_trainer.config.data import Records
from zerotune_trainer.config.generation import Generation
from zerotune_trainer.config.plugin import FunctionName

BUILT_IN_METRICS = ("exact_match", "rouge")
"""Metrics that need no plug-in."""


class SampleColumns(Settings):
    """Which columns of a record hold a prompt, and the answer that a generated text is compared with."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.prompt) != has(self.messages)", "give exactly one of prompt and messages"),
        Rule(
            "!has(self.completion) || has(self.prompt)",
            "completion follows a prompt: name the column prompt too, or leave completion out",
            "completion",
        ),
    )

    prompt: str | None = None
    """Column with the prompt: text, or a list of messages."""
    completion: str | None = None
    """Column with the answer to compare with. Default: `completion` or `chosen`, whichever is there."""
    messages: str | None = None
    """Column with a conversation. Where the assistant has the last word, that is the answer to compare with."""
    tools: str | None = None
    """Column with the tools that a conversation may call. Default: `tools`, where it is there."""


class TextEvaluation(Generation):
    """Generate texts for some prompts with each evaluation, greedily unless set otherwise, and keep them in the report
    and in `samples.jsonl` of the output."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *Generation.rules,
        Rule(
            "self.numReturnSequences == 1",
            "one text is generated for each prompt: leave numReturnSequences out",
            "numReturnSequences",
        ),
        each_once("metrics"),
    )

    data: Records | None = None
    """Records with the prompts, and with references to compare with. Default: `data.validation`."""
    columns: SampleColumns | None = None
    """Which columns hold what. Default: those of `data.columns`, else `messages` or `prompt`, whichever is there."""
    max_samples: int = Field(default=32, ge=1, le=1024)
    """How many records are taken, from the first on."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Most tokens generated for a prompt."""
    metrics: list[FunctionName] = Field(default=[], max_length=16)
    """`exact_match`, `rouge` (F-measures of ROUGE-1, -2 and -L), or a function of the plug-in:
    `def NAME(predictions: list[str], references: list[str]) -> float | dict[str, float]`."""
