"""Rules of an InferenceJob's spec about its task: what it reads for it."""

from __future__ import annotations

from zerotune_trainer.config.base import Rule

_WRITTEN = "[self.outputFormat.generationColumn, self.outputFormat.errorColumn]"
TASK_RULES = (
    *(
        Rule(
            f"!has(self.data.columns.{name}) || !(self.data.columns.{name} in {_WRITTEN})",
            "the output keeps the columns of the input beside what is generated: let outputFormat.generationColumn and "
            "outputFormat.errorColumn name others",
            f"data.columns.{name}",
        )
        for name in ("prompt", "messages", "completion", "text")
    ),
    Rule(
        "!has(self.data.columns.chosen) && (self.task == 'score' || !has(self.data.columns.completion)) "
        "&& (self.task != 'generate' || !has(self.data.columns.text))",
        "an InferenceJob reads the column prompt or messages, with task: score text or completion "
        "too, with task: embed text: name one",
        "data.columns",
    ),
    Rule(
        "self.task != 'score' || [has(self.data.columns.text), has(self.data.columns.completion), "
        "size(self.labels) > 0].exists_one(given, given)",
        "task: score scores the column text, the column completion behind its prompt, or labels behind a prompt: give "
        "exactly one of data.columns.text, data.columns.completion and labels",
        "task",
    ),
    Rule(
        "self.task == 'score' || size(self.labels) == 0",
        "labels are for task: score: set that task, or leave labels out",
        "labels",
    ),
    Rule(
        "self.task == 'embed' || self.embedding.pooling == 'mean' && self.embedding.normalize",
        "embedding is for task: embed: set that task, or leave embedding out",
        "embedding",
    ),
    Rule(
        "self.task != 'embed' || self.engine != 'vllm'",
        "engine vllm gives no hidden states here: leave engine out, or set transformers, deepspeed or zero",
        "task",
    ),
    Rule(
        "size(self.labels) != 1",
        "one label alone has probability 1 whatever the record is: give all that may follow the prompt, or name the "
        "text to score as data.columns.completion",
        "labels",
    ),
    Rule(
        "!has(self.data.columns.text) || !has(self.data.template) && !self.data.applyChatTemplate "
        "&& !has(self.data.systemPrompt)",
        "a text is read as it is: leave template, applyChatTemplate and systemPrompt out, or name the column prompt",
        "data.columns.text",
    ),
)
