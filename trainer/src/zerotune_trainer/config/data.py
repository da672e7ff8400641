"""Which records a FineTuneJob trains on, and how they become rows."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from zerotune_trainer.config.base import JsonObject, Number, ObjectName, RecordsUri, Rule, Settings
from zerotune_trainer.config.sources import SecretReference

Packing = Literal["none", "wrapped", "bfd_split"]
"""How records share a block."""


def no_match(pattern: str) -> str:
    """What to say of a pattern that no path matches, and how it may have been meant."""
    literal = "; a [ that is part of a name is written [[]" if "[" in pattern else ""
    return f"is a pattern that no path matches{literal}"


class Columns(Settings):
    """Which columns of a record hold what. Give `text`, or `messages`, or `prompt` and `completion`; for preferences
    `chosen` and `rejected` (dpo, orpo) or `completion` and `label` (kto), each with its `prompt`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.text) || !(has(self.messages) || has(self.prompt) || has(self.completion) || has(self.chosen) "
            "|| has(self.rejected) || has(self.label) || has(self.tools))",
            "text is a whole record: leave out the other columns, or leave out text",
            "text",
        ),
        Rule(
            "!has(self.messages) || !(has(self.prompt) || has(self.completion) || has(self.chosen) "
            "|| has(self.rejected) || has(self.label))",
            "messages holds a whole conversation: leave out the other columns, or leave out messages",
            "messages",
        ),
        Rule("!has(self.completion) || has(self.prompt)", "completion follows a prompt: name the column prompt too"),
        Rule("has(self.chosen) == has(self.rejected)", "chosen and rejected go together: name both columns or neither"),
        Rule(
            "!has(self.chosen) || !has(self.completion) && !has(self.label)",
            "chosen and rejected replace completion and label: leave out the one pair or the other",
            "chosen",
        ),
        Rule(
            "!has(self.label) || has(self.completion)",
            "label judges a completion: name the column completion too",
            "label",
        ),
    )

    text: str | None = None
    """Column with plain text."""
    messages: str | None = None
    """Column with a list of `{role, content}`, put through the model's chat template."""
    prompt: str | None = None
    """Column with the prompt: text, or for a FineTuneJob a list of messages, too."""
    completion: str | None = None
    """Column with the completion that follows the prompt: text, or for a FineTuneJob a list of messages, too."""
    chosen: str | None = None
    """Column with the preferred answer, for methods dpo and orpo."""
    rejected: str | None = None
    """Column with the answer that was turned down, for methods dpo and orpo."""
    tools: str | None = None
    """Column with the tools that a conversation may call: a list of JSON schemas, or JSON text of one, for the chat
    template. Left out: `tools`, where it is there."""
    label: str | None = None
    """Column that says whether the completion is good (true) or bad, for method kto."""


_IS_OF_HUB = "uri.startsWith('hf://')"
_IS_A_FILE = " || ".join(f"uri.endsWith('.{end}')" for end in ("jsonl", "gz", "parquet", "csv", "txt"))
_SHOWS_NO_FORMAT = " || ".join(
    f"uri.endsWith('.{end}')" for end in ("json", "json.gz", "JSON", "JSONL", "PARQUET", "CSV", "TXT")
)


class Records(Settings):
    """Files of records."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(size(self.uris) > 0) != has(self.fromInferenceJob)",
            "give exactly one of uris and fromInferenceJob",
        ),
        Rule(
            "!has(self.split) || !has(self.fromInferenceJob) && self.format in ['auto', 'datasets'] "
            f"&& !self.uris.exists(uri, {_IS_A_FILE})",
            "split chooses from a data set that holds several: leave split out for plain files",
            "split",
        ),
        Rule(
            f"!has(self.subset) || !has(self.fromInferenceJob) && self.uris.all(uri, {_IS_OF_HUB})",
            "subset chooses from a data set of the Hugging Face Hub: leave subset out, or name hf://datasets/ORG/NAME",
            "subset",
        ),
        Rule(
            f"self.format in ['auto', 'datasets'] || !self.uris.exists(uri, {_IS_OF_HUB})",
            "format is for files, and a data set of the Hugging Face Hub is read by `datasets`: leave format out",
            "format",
        ),
        Rule(
            f"self.format != 'auto' || !self.uris.exists(uri, {_SHOWS_NO_FORMAT})",
            "format auto goes by the end of a file's name, which is .jsonl, .jsonl.gz, .parquet, .csv or .txt in lower "
            "case: give files with such names, or set format",
            "uris",
        ),
    )

    uris: list[RecordsUri] = Field(default=[], max_length=256)
    """Files, globs or folders; a folder stands for every file in it that `format` can read. Or data sets of the
    Hugging Face Hub, `hf://datasets/ORG/NAME`, with `@REVISION` where it is not the main branch."""
    from_inference_job: ObjectName | None = None
    """Name of an InferenceJob whose output is the records. The job waits for it, and fails when it fails."""
    format: Literal["auto", "jsonl", "parquet", "csv", "txt", "datasets"] = "auto"
    """Format of the files. `auto` goes by the file's name: .jsonl, .jsonl.gz, .parquet, .csv, .txt; a folder written by
    `datasets.save_to_disk` is recognized by its content. A txt file is one record."""
    split: str | None = None
    """Which split of a data set that holds several."""
    subset: str | None = Field(default=None, min_length=1)
    """Which subset (configuration) of a data set of the Hugging Face Hub that has several."""


class Texts(Records):
    """Files of plain text, of which every token counts. The texts are joined end to end and cut into blocks of
    `data.maxLength` tokens, or packed as `data.packing` says."""

    text_column: str = Field(default="text", min_length=1)
    """Column with the text."""


class Replay(Texts):
    """General text that is mixed into the training records, so that the model forgets less of what it knew."""

    share: Number = Field(gt=0, le=0.9)
    """Share of the tokens of an epoch that is general text. Which rows of it, and where they stand among the others,
    follows from `training.seed`; where there is too little of it, rows are repeated, and counted in the report."""


class Data(Settings):
    """What a FineTuneJob trains and is evaluated on."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.validation) || self.validationFraction == 0.0",
            "give validation or validationFraction, not both",
            "validationFraction",
        ),
        Rule(
            "!(has(self.columns.prompt) && !has(self.columns.completion) && !has(self.columns.chosen))",
            "columns.prompt needs the answer to learn: name the column completion too",
            "columns.prompt",
        ),
        Rule(
            "!has(self.loss) || self.loss != 'completion' || !has(self.columns.text) && !has(self.columns.messages)",
            "loss: completion needs the columns prompt and completion; for messages use loss: assistant",
            "loss",
        ),
        Rule(
            "!has(self.loss) || self.loss != 'assistant' || !has(self.columns.text) "
            "|| has(self.responseTemplate) || has(self.responseTemplateIds)",
            "loss: assistant needs the column messages; with plain text it needs responseTemplate or "
            "responseTemplateIds",
            "loss",
        ),
        *(
            Rule(
                f"!has(self.{response}) || has(self.loss) && self.loss == 'assistant'",
                f"{response} marks answers for loss: assistant: set that loss, or leave {response} out",
                response,
            )
            for response in ("responseTemplate", "responseTemplateIds")
        ),
        *(
            Rule(
                f"!has(self.instructionTemplate{kind}) || has(self.responseTemplate{kind})",
                f"instructionTemplate{kind} ends what responseTemplate{kind} begins: give both, "
                f"or leave instructionTemplate{kind} out",
                f"instructionTemplate{kind}",
            )
            for kind in ("", "Ids")
        ),
        Rule(
            "!has(self.responseTemplate) || !has(self.responseTemplateIds)",
            "the templates are given as text or as token ids, not both: leave responseTemplateIds out",
            "responseTemplateIds",
        ),
        Rule(
            "self.truncationSide == 'right' || self.overflow == 'truncate'",
            "truncationSide is about records that are cut: set overflow: truncate, or leave truncationSide out",
            "truncationSide",
        ),
        Rule(
            "!has(self.columns.text) || !has(self.systemPrompt)",
            "systemPrompt opens conversations, and columns.text holds none: leave one of them out",
            "systemPrompt",
        ),
        Rule(
            "!has(self.columns.text) || !self.addGenerationPrompt",
            "addGenerationPrompt is for conversations, and columns.text holds none: leave one of them out",
            "addGenerationPrompt",
        ),
    )

    train: Records
    """Records to train on."""
    validation: Records | None = None
    """Records to evaluate on."""
    validation_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the training records set aside for evaluation, chosen by `training.seed`. Excludes `validation`."""
    replay: Replay | None = None
    """General text to mix in, for methods cpt and sft. `columns` and `processing` are not for it."""
    columns: Columns = Columns()
    """Which columns hold what. Left out: `messages`, `prompt` and `completion`, or `text`, whichever is there."""
    max_length: int = Field(default=1024, ge=8, le=16777216)
    """Context in tokens: the length of a packed block, and the longest record otherwise."""
    packing: Packing | None = None
    """How records share a block of `maxLength` tokens (TRL `packing_strategy`). `wrapped` joins them end to end, then
    cuts; `bfd_split` fills blocks with whole records, kept apart in attention; `none`: one record a row. No token is
    discarded by any of them, but for blocks in which nothing counts in the loss: they are left out, and counted.
    Default: `wrapped` for method cpt, else `none`."""
    padding_free: bool = False
    """For methods dpo, orpo and kto (TRL `padding_free`): the sequences of a micro batch share rows in the forward
    pass, kept apart in attention, so that little is computed for padding. The results are the same."""
    overflow: Literal["error", "truncate", "skip"] = "error"
    """What to do with a record longer than `maxLength` where records are not packed. What was cut or skipped is
    counted in the report."""
    truncation_side: Literal["right", "left"] = "right"
    """Which end `overflow: truncate` cuts off."""
    padding: Literal["longest", "max_length"] = "longest"
    """Pad to the longest row of the batch, or always to `maxLength`."""
    pad_to_multiple_of: int | None = Field(default=None, ge=1, le=1024)
    """Round padded lengths up to a multiple of this (8 suits tensor cores)."""
    system_prompt: str | None = None
    """A system message put before conversations that have none."""
    chat_template_kwargs: JsonObject = Field(default={})
    """Further variables of the chat template, such as `enable_thinking: false`. A record's own, in a column
    `chat_template_kwargs`, win. One that the template does not read is an error."""
    add_generation_prompt: bool = False
    """End each rendered conversation with the template's prompt for the next assistant turn."""
    loss: Literal["all", "completion", "assistant"] | None = None
    """Which tokens count in the loss: all, those of the completion, or those of assistant turns. Default: `completion`
    for prompt and completion columns, else `all`."""
    response_template: str | None = Field(default=None, min_length=1)
    """Text after which an assistant's answer begins, for `loss: assistant` with plain text."""
    response_template_ids: list[int] | None = Field(default=None, min_length=1)
    """Token ids instead of the text of `responseTemplate`: a text may be cut into other tokens where it stands."""
    instruction_template: str | None = Field(default=None, min_length=1)
    """Text at which the next instruction begins and the loss stops again; goes with `responseTemplate`. Left out: only
    the last answer counts."""
    instruction_template_ids: list[int] | None = Field(default=None, min_length=1)
    """The same as token ids; goes with `responseTemplateIds`."""
    credentials: SecretReference | None = None
    """Secret with the keys that reading the data takes."""
