"""Rules between the plug-in of a FineTuneJob and its other settings: what it defines has an effect."""

from __future__ import annotations

from zerotune_trainer.config.base import Rule

_PREDICTS = "self.method in ['cpt', 'sft']"
_FUNCTIONS = ("processing", "formattingFunc", "computeLossFunc", "dataCollator")

PLUGIN_RULES = (
    Rule(
        "self.method != 'script' || !has(self.plugin)",
        "a script brings its own code: leave plugin out, or use another method",
        "plugin",
    ),
    Rule(
        "!has(self.plugin) || size(self.plugin.callbacks) > 0 || has(self.evaluation.generation) || "
        + " || ".join(f"has(self.plugin.{name})" for name in _FUNCTIONS),
        f"plugin names nothing of its file: name a function as {', '.join(_FUNCTIONS)}, in callbacks, or "
        "in evaluation.generation.metrics",
        "plugin",
    ),
    *(
        Rule(
            f"{_PREDICTS} || !has(self.plugin) || !has(self.plugin.{name})",
            f"{name} is for methods cpt and sft: leave it out",
            f"plugin.{name}",
        )
        for name in _FUNCTIONS[1:]
    ),
    Rule(
        "!has(self.plugin) || !has(self.plugin.formattingFunc) || !has(self.data.columns.text) "
        "&& !has(self.data.columns.messages) && !has(self.data.columns.prompt)",
        "formattingFunc takes the place of data.columns: leave one of them out",
        "plugin.formattingFunc",
    ),
    Rule(
        "!has(self.plugin) || !has(self.plugin.dataCollator) || !has(self.data.packing) "
        "|| self.data.packing != 'bfd_split'",
        "packing: bfd_split keeps the documents of a block apart by its own collator: set packing to none or wrapped, "
        "or leave dataCollator out",
        "plugin.dataCollator",
    ),
    Rule(
        "!has(self.plugin) || !has(self.plugin.computeLossFunc) "
        "|| !has(self.training.arguments.label_smoothing_factor)",
        "label_smoothing_factor is part of the loss that computeLossFunc takes the place of: leave one of them out",
        "plugin.computeLossFunc",
    ),
)
"""Of a FineTuneJob's spec."""
