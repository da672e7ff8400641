"""Rules between the method of a FineTuneJob and its other settings: each has an effect with that method."""

from __future__ import annotations

from zerotune_trainer.config.base import Rule

_PREFERENCE = "self.method in ['dpo', 'orpo', 'kto']"

METHOD_RULES = (
    Rule(
        "self.method != 'cpt' || !has(self.data.columns.messages) && !has(self.data.columns.prompt)",
        "method cpt trains on plain text: name the column text, or use method sft",
        "data.columns",
    ),
    Rule(
        "self.method != 'cpt' || !has(self.data.loss) || self.data.loss == 'all'",
        "method cpt learns every token: leave loss out, or use method sft",
        "data.loss",
    ),
    Rule(
        "self.method in ['dpo', 'orpo'] || !has(self.data.columns.chosen)",
        "columns.chosen and columns.rejected are for methods dpo and orpo",
        "data.columns.chosen",
    ),
    Rule(
        "self.method == 'kto' || !has(self.data.columns.label)",
        "columns.label is for method kto",
        "data.columns.label",
    ),
    Rule(
        f"!({_PREFERENCE}) || !has(self.data.packing) || self.data.packing == 'none'",
        "preferences are not packed: leave packing out and set paddingFree, or use method cpt or sft",
        "data.packing",
    ),
    Rule(
        f"{_PREFERENCE} || !self.data.paddingFree",
        "paddingFree is for methods dpo, orpo and kto: set packing: bfd_split, or leave paddingFree out",
        "data.paddingFree",
    ),
    Rule(
        "!self.data.paddingFree || self.data.padding == 'longest' && !has(self.data.padToMultipleOf)",
        "sequences that share rows are not padded to a length: leave padding and padToMultipleOf out, or paddingFree",
        "data.paddingFree",
    ),
    Rule(
        f"{_PREFERENCE} || !has(self.preference)",
        "preference is for methods dpo, orpo and kto: leave it out",
        "preference",
    ),
    Rule(
        "(self.method == 'script') == has(self.script)",
        "method script and the field script go together: give both or neither",
        "script",
    ),
    Rule(
        "self.method != 'script' || !has(self.adapter)",
        "a script decides itself what it trains: leave adapter out, or use another method",
        "adapter",
    ),
    Rule(
        "self.method != 'orpo' || !has(self.preference) || !has(self.preference.referenceModel)",
        "method orpo compares with no reference: leave referenceModel out, or use method dpo or kto",
        "preference.referenceModel",
    ),
    *(
        Rule(
            f"!({_PREFERENCE}) || !has(self.data.columns.{column})",
            f"preferences are not in a column {column}: name the columns prompt, chosen and rejected, or for kto "
            "prompt, completion and label; or use method sft",
            f"data.columns.{column}",
        )
        for column in ("text", "messages")
    ),
    Rule(
        "!(self.method in ['dpo', 'orpo']) || !has(self.data.columns.completion)",
        "a pair of completions is in columns.chosen and columns.rejected: name those, or use method kto or sft",
        "data.columns.completion",
    ),
    Rule(
        f"!({_PREFERENCE}) || !has(self.data.loss) || self.data.loss == 'completion'",
        "preferences are about completions: leave loss out, or use method sft",
        "data.loss",
    ),
    Rule(
        f"!({_PREFERENCE}) || self.data.truncationSide == 'right'",
        "a preference record that is too long loses the beginning of its prompt: leave truncationSide out",
        "data.truncationSide",
    ),
    Rule(
        f"!({_PREFERENCE}) || !has(self.training.arguments.label_smoothing_factor) "
        "|| self.training.arguments.label_smoothing_factor == 0.0",
        "label_smoothing_factor is for methods cpt and sft: leave it out; method dpo has preference.labelSmoothing",
        "training.arguments.label_smoothing_factor",
    ),
    *(
        Rule(
            f"!({_PREFERENCE}) || !has(self.{field})",
            f"methods dpo, orpo and kto do not go with {field}, which is for methods cpt and sft: leave {field} out, "
            "or use one of those",
            field,
        )
        for field in ("data.replay", "evaluation.control")
    ),
    Rule(
        "self.method != 'cpt' || !has(self.data.systemPrompt)",
        "systemPrompt opens conversations, and method cpt trains on plain text: leave systemPrompt out, or use method "
        "sft",
        "data.systemPrompt",
    ),
    Rule(
        "self.method != 'cpt' || !self.data.addGenerationPrompt",
        "addGenerationPrompt is for conversations, and method cpt trains on plain text: leave addGenerationPrompt out, "
        "or use method sft",
        "data.addGenerationPrompt",
    ),
    Rule(
        f"!({_PREFERENCE}) || !self.data.addGenerationPrompt",
        "addGenerationPrompt ends conversations with the prompt for a turn that no completion has: leave "
        "addGenerationPrompt out, or use method sft",
        "data.addGenerationPrompt",
    ),
    Rule(
        "self.method != 'dpo' || !has(self.preference) || self.preference.labelSmoothing == 0.0 "
        "|| 'robust' in self.preference.lossType",
        "labelSmoothing is read by the loss robust alone: add robust to lossType, or leave labelSmoothing out",
        "preference.labelSmoothing",
    ),
    Rule(
        "!has(self.preference) || !has(self.preference.maxPromptLength) "
        "|| self.preference.maxPromptLength <= self.data.maxLength",
        "no prompt is longer than its record: set maxPromptLength to data.maxLength or less, or leave it out",
        "preference.maxPromptLength",
    ),
    *(
        Rule(
            f"self.method == '{method}' || !has(self.preference) || {default}",
            f"{field} is for method {method}: leave it out",
            f"preference.{field}",
        )
        for field, method, default in (
            ("lossType", "dpo", "self.preference.lossType == ['sigmoid']"),
            ("lossWeights", "dpo", "!has(self.preference.lossWeights)"),
            ("labelSmoothing", "dpo", "self.preference.labelSmoothing == 0.0"),
            ("desirableWeight", "kto", "self.preference.desirableWeight == 1.0"),
            ("undesirableWeight", "kto", "self.preference.undesirableWeight == 1.0"),
        )
    ),
)
"""Of a FineTuneJob's spec."""
