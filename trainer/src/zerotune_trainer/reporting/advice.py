"""What to do next, read off a finished run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from zerotune_trainer.config.jobs import TrainConfig
from zerotune_trainer.counting import counted
from zerotune_trainer.reporting.results import EvalRecord, TrainRecord

CLIPPED_SHARE = 2.0
"""Median gradient norm, as a multiple of `maxGradNorm`, above which clipping decides the step size."""
FORGOTTEN = 0.1
"""Rise of the control texts' perplexity, as a share, that is worth a word."""
STILL_FALLING = 0.02
"""Relative fall of the evaluation loss in its last interval that says the model has not converged."""


def advise(config: TrainConfig, steps: Sequence[TrainRecord], evaluations: Sequence[EvalRecord]) -> list[str]:
    """Sentences about this run, the most pressing first; empty where nothing stands out."""
    found = (
        _gaps(steps),
        _forgotten(evaluations),
        _overfit(config, evaluations),
        _unfinished(evaluations),
        _clipped(config, steps),
    )
    advice = [sentence for sentence in found if sentence]
    if not evaluations:
        advice.append(
            "There was no evaluation, so nothing here says how the model does on text it has not seen: give "
            "data.validation or data.validationFraction."
        )
    return advice


def _gaps(steps: Sequence[TrainRecord]) -> str:
    bad = [record.step for record in steps if record.loss is None or not abs(record.loss) < float("inf")]
    if not bad:
        return ""
    return (
        f"The loss was not finite at {counted(len(bad), 'logged step')}, first at step {bad[0]}: lower "
        "training.learningRate, lengthen training.warmupSteps, or train in bf16 instead of fp16."
    )


def _forgotten(evaluations: Sequence[EvalRecord]) -> str:
    measured = [one.control_perplexity for one in evaluations if one.control_perplexity is not None]
    if not measured or measured[-1] < measured[0] * (1 + FORGOTTEN):
        return ""
    return (
        f"The perplexity of the control texts rose from {measured[0]:.4g} to {measured[-1]:.4g}: the model has "
        "forgotten some of what it knew. Mix general text in with data.replay, or lower training.learningRate."
    )


def _losses(evaluations: Sequence[EvalRecord]) -> list[tuple[int, float]]:
    return [(record.step, record.eval_loss) for record in evaluations if record.eval_loss is not None]


def _overfit(config: TrainConfig, evaluations: Sequence[EvalRecord]) -> str:
    losses = _losses(evaluations)
    if not losses or config.evaluation.load_best_model_at_end:
        return ""
    best = min(losses, key=lambda entry: entry[1])
    if best[0] == losses[-1][0]:
        return ""
    return (
        f"The evaluation loss was lowest at step {best[0]} ({best[1]:.4f}) and {losses[-1][1]:.4f} at the end: "
        "train for fewer steps, or set evaluation.loadBestModelAtEnd."
    )


def _unfinished(evaluations: Sequence[EvalRecord]) -> str:
    losses = _losses(evaluations)
    if len(losses) < 3 or losses[-1][1] > losses[-2][1] * (1 - STILL_FALLING):
        return ""
    return (
        f"The evaluation loss was still falling at the end ({losses[-2][1]:.4f} at step {losses[-2][0]}, "
        f"{losses[-1][1]:.4f} at step {losses[-1][0]}): more steps will most likely help."
    )


def _clipped(config: TrainConfig, steps: Sequence[TrainRecord]) -> str:
    limit = config.training.max_grad_norm
    norms = [record.grad_norm for record in steps if record.grad_norm is not None]
    if not limit or not norms or median(norms) < CLIPPED_SHARE * limit:
        return ""
    return (
        f"Half of the gradients had a norm above {median(norms):.3g}, but training.maxGradNorm is {limit:g}: clipping "
        "sets the pace. A higher limit, or a larger batch, would let the gradient decide."
    )
