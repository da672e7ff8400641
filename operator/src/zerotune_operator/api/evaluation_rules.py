"""Rules of a FineTuneJob's spec about its evaluation."""

from __future__ import annotations

from zerotune_trainer.config.base import Rule
from zerotune_trainer.config.text_evaluation import BUILT_IN_METRICS

_HAS_RECORDS = "(has(self.data.validation) || self.data.validationFraction > 0.0)"
_EVALUATES = f"{_HAS_RECORDS} && self.evaluation.evalStrategy != 'no'"
_IS_SCRIPT = "self.method == 'script'"

EVALUATION_RULES = (
    Rule(
        f"{_IS_SCRIPT} || self.evaluation.evalStrategy != 'steps' || {_HAS_RECORDS}",
        "there are no records to evaluate on every evalSteps: give data.validation or data.validationFraction, or "
        "leave evalStrategy out",
        "evaluation.evalStrategy",
    ),
    Rule(
        f"{_IS_SCRIPT} || self.method in ['dpo', 'kto'] || !has(self.training.perDeviceEvalBatchSize) || {_EVALUATES}",
        "perDeviceEvalBatchSize has no effect without evaluations: give data.validation or data.validationFraction, "
        "and an evalStrategy other than no; or leave perDeviceEvalBatchSize out",
        "training.perDeviceEvalBatchSize",
    ),
    Rule(
        f"{_IS_SCRIPT} || !has(self.training.arguments.eval_delay) || self.training.arguments.eval_delay == 0.0 "
        f"|| {_EVALUATES}",
        "eval_delay has no effect without evaluations: give data.validation or data.validationFraction, and an "
        "evalStrategy other than no; or leave eval_delay out",
        "training.arguments.eval_delay",
    ),
    Rule(
        f"{_IS_SCRIPT} || self.checkpoint.resume != 'best' || {_EVALUATES}",
        "which checkpoint is the best is known by evaluations: give data.validation or data.validationFraction, and an "
        "evalStrategy other than no; or name a checkpoint",
        "checkpoint.resume",
    ),
    Rule(
        f"{_IS_SCRIPT} || !has(self.checkpoint.uri) || self.checkpoint.saveStrategy != 'no'",
        "checkpoint.uri has no effect with checkpoint.saveStrategy: no: set that to steps or epoch, or leave uri out",
        "checkpoint.uri",
    ),
    Rule(
        "!has(self.evaluation.control) || has(self.data.validation) || self.data.validationFraction > 0.0",
        "control texts are measured with each evaluation: give data.validation or data.validationFraction too",
        "evaluation.control",
    ),
    Rule(
        "!has(self.evaluation.generation) || has(self.data.validation) || self.data.validationFraction > 0.0",
        "texts are generated with each evaluation: give data.validation or data.validationFraction too",
        "evaluation.generation",
    ),
    Rule(
        "!has(self.evaluation.generation) || has(self.evaluation.generation.data) || has(self.data.validation)",
        "evaluation.generation has no prompts: name records with prompts in evaluation.generation.data, or in "
        "data.validation",
        "evaluation.generation.data",
    ),
    Rule(
        "!has(self.evaluation.generation) || has(self.plugin) "
        f"|| self.evaluation.generation.metrics.all(name, name in {list(BUILT_IN_METRICS)})",
        f"a metric that is not {' or '.join(BUILT_IN_METRICS)} is a function of plugin: name its file there, or leave "
        "the metric out",
        "evaluation.generation.metrics",
    ),
    Rule(
        "!has(self.evaluation.generation) || self.method != 'script'",
        "method script and evaluation.generation do not go together, since a script evaluates by itself: leave "
        "evaluation.generation out, or use another method",
        "evaluation.generation",
    ),
    Rule(
        "!self.evaluation.loadBestModelAtEnd || has(self.data.validation) || self.data.validationFraction > 0.0",
        "loadBestModelAtEnd needs records to evaluate on: give data.validation or data.validationFraction",
        "evaluation.loadBestModelAtEnd",
    ),
    Rule(
        "!self.evaluation.loadBestModelAtEnd || self.evaluation.evalStrategy != 'no' "
        "&& self.evaluation.evalStrategy == self.checkpoint.saveStrategy",
        "loadBestModelAtEnd needs a checkpoint for every evaluation: set evaluation.evalStrategy and "
        "checkpoint.saveStrategy both to steps, or both to epoch",
        "evaluation.loadBestModelAtEnd",
    ),
    Rule(
        "!self.evaluation.loadBestModelAtEnd || self.evaluation.evalStrategy != 'steps' "
        "|| self.checkpoint.saveSteps % self.evaluation.evalSteps == 0",
        "loadBestModelAtEnd needs checkpoint.saveSteps to be a multiple of evaluation.evalSteps",
        "checkpoint.saveSteps",
    ),
)
