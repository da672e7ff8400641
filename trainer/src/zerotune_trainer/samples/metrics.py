"""Figures of generated texts: exact match, ROUGE, and functions of the user's plug-in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from zerotune_trainer.config.functions import METRIC
from zerotune_trainer.plugin import LoadedPlugin

Metric = Callable[[list[str], list[str]], dict[str, float]]
"""(predictions, references) -> figures by name."""

_MOST_FIGURES = 16
_NAME = re.compile(r"[A-Za-z0-9_./-]{0,64}")
_ROUGE = ("rouge1", "rouge2", "rougeL")


def load_metrics(names: Sequence[str], plugin: LoadedPlugin | None) -> list[Metric]:
    """The metrics of these names.

    Raises:
        InputMissingError, ConfigurationError: the plug-in has no function of that name, or it is none of a metric.
    """
    return [_BUILT_IN[name] if name in _BUILT_IN else _of_plugin(plugin, name) for name in names]


def exact_match(predictions: list[str], references: list[str]) -> dict[str, float]:
    """The share of texts that are their reference, but for white space at both ends."""
    equal = [one.strip() == other.strip() for one, other in zip(predictions, references, strict=True)]
    return {"exact_match": sum(equal) / len(equal)}


def rouge(predictions: list[str], references: list[str]) -> dict[str, float]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), means over the texts, from 0 to 1.

    Texts are lower-cased and split at what is neither a letter from a to z nor a digit, without stemming, as
    Google's `rouge_score` does by default.
    """
    # Here, since it takes seconds, and few jobs need it.
    from torchmetrics.functional.text import rouge_score

    found = rouge_score(predictions, references, rouge_keys=_ROUGE)
    return {key: float(found[f"{key}_fmeasure"]) for key in _ROUGE}


_BUILT_IN: dict[str, Metric] = {"exact_match": exact_match, "rouge": rouge}


def _of_plugin(plugin: LoadedPlugin | None, name: str) -> Metric:
    assert plugin is not None, "validation asks for one where a metric is not built in"
    return partial(_measured, plugin, name, plugin.function(name, METRIC))


def _measured(
    plugin: LoadedPlugin, name: str, function: Callable[..., Any], predictions: list[str], references: list[str]
) -> dict[str, float]:
    place = f"for {len(predictions)} generated texts"
    with plugin.errors(name, place):
        returned = function(list(predictions), list(references))  # What it changes of them is its own.
    figures = returned if isinstance(returned, dict) else {"": returned}
    names_fit = all(isinstance(key, str) and _NAME.fullmatch(key) for key in figures)
    if not 0 < len(figures) <= _MOST_FIGURES or not names_fit or not all(map(_is_number, figures.values())):
        remedy = (
            f"return a finite number, or a dict of 1 to {_MOST_FIGURES} of them, each by a name of at most 64 "
            "letters, digits and _ . / -"
        )
        raise plugin.wrong(name, place, f"returned {returned!r:.200}", remedy)
    return {f"{name}_{key}" if key else name: float(value) for key, value in figures.items()}


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, str) and math.isfinite(value)
    except (TypeError, ValueError):
        return False
