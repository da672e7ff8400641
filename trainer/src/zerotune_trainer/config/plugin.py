"""`spec.plugin`: a Python file of the user's own, and which of its functions take the place of ours."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from zerotune_trainer.config.base import ObjectName, Rule, Settings, Uri, each_once
from zerotune_trainer.config.functions import CALLBACK, COLLATOR, FORMATTING, LOSS, PROCESSING, Signature

FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)]
"""Name of a function or class of the file."""


class ConfigMapKey(Settings):
    """A key of a ConfigMap in the job's namespace."""

    name: ObjectName
    """Name of the ConfigMap."""
    key: str = Field(default="plugin.py", pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)
    """Key that holds the file."""


class PluginFile(Settings):
    """Where a plug-in is."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.file) != has(self.configMap)", "give exactly one of file and configMap"),
        Rule(
            "!has(self.file) || !self.file.startsWith('hf://')",
            "only models and data sets are read from the Hugging Face Hub: name the plug-in as s3://, pvc:// or file://",
            "file",
        ),
    )

    file: Uri | None = None
    """The Python file: `s3://BUCKET/KEY`, `pvc://CLAIM/PATH` or `file:///PATH`."""
    config_map: ConfigMapKey | None = None
    """A ConfigMap that holds the file (backend Kubernetes)."""

    @property
    def uri(self) -> str:
        """The file as a rank reads it: the plan fills it in where it is in a ConfigMap."""
        assert self.file is not None, "validation asks for one, and the plan makes one of a ConfigMap"
        return self.file


class RecordPlugin(PluginFile):
    """A Python file of your own that defines what records go through first."""

    processing: FunctionName
    """`def NAME(record: dict) -> dict`: gets a record, and returns the record to use instead."""

    @property
    def functions(self) -> list[tuple[str, Signature]]:
        """What of the file the job uses, with what it is called with."""
        return [(self.processing, PROCESSING)]


class Plugin(PluginFile):
    """A Python file of your own, and which of its functions and classes the job uses."""

    rules: ClassVar[tuple[Rule, ...]] = (*PluginFile.rules, each_once("callbacks"))

    processing: FunctionName | None = None
    """`def NAME(record: dict) -> dict`: gets a record, and returns the record to use instead. It is called first."""
    formatting_func: FunctionName | None = None
    """`def NAME(record: dict) -> str | list[dict]`: makes the text of a record, or its messages for the chat template,
    in place of `data.columns` (TRL `formatting_func`)."""
    compute_loss_func: FunctionName | None = None
    """`def NAME(outputs, labels, num_items_in_batch) -> Tensor`: the loss of a micro batch, to be divided by the tokens
    of all micro batches and ranks (transformers `compute_loss_func`)."""
    data_collator: FunctionName | None = None
    """`def NAME(rows: list[dict]) -> dict`: makes a batch of rows, whose `input_ids` and `labels` are int32 arrays
    (transformers `data_collator`). A row all of whose labels are -100 only fills a batch up."""
    callbacks: list[FunctionName] = Field(default=[], max_length=16)
    """Classes derived from transformers' TrainerCallback, made without arguments. Every rank calls them."""

    @property
    def functions(self) -> list[tuple[str, Signature]]:
        """Everything of the file that the job names here, with what it is called with."""
        named = (
            (self.processing, PROCESSING),
            (self.formatting_func, FORMATTING),
            (self.compute_loss_func, LOSS),
            (self.data_collator, COLLATOR),
            *((name, CALLBACK) for name in self.callbacks),
        )
        return [(name, signature) for name, signature in named if name is not None]
