"""Whether the good and the bad completions of method kto weigh about the same, as TRL's trainer looks at it."""

from __future__ import annotations

from zerotune_trainer.config.training import Preference
from zerotune_trainer.data.counts import SplitCounts

_LEAST, _MOST = 1.0, 1.33
"""How often the good ones may weigh what the bad ones do (Ethayarajh et al., arXiv 2402.01306, section 5)."""


def imbalance(counts: SplitCounts, preference: Preference) -> str:
    """What is wrong with the number of good and bad completions; empty where nothing is, or none are judged.

    Args:
        counts: Of the rows to train on.
        preference: The spec's, with the weight of a good completion and of a bad one.
    """
    good, bad = counts.good_completions, counts.bad_completions
    if not good and not bad:
        return ""
    if not good or not bad:
        kind, other = ("good", "false") if good else ("bad", "true")
        return (
            f"all {counts.rows} completions to train on are {kind}: method kto learns from both kinds; add records "
            f"whose label is {other}, or use method sft on good ones"
        )
    weights = float(preference.desirable_weight), float(preference.undesirable_weight)
    ratio = weights[0] * good / (weights[1] * bad)
    if _LEAST <= round(ratio, 2) <= _MOST:
        return ""
    least, most = (f"{share * weights[1] * bad / good:.2f}" for share in (_LEAST, _MOST))
    return (
        f"{good} good and {bad} bad completions weigh {ratio:.2f} to 1, and {_LEAST:g} to {_MOST:g} is recommended: "
        f"set preference.desirableWeight to {least} to {most} with the undesirableWeight {weights[1]:g}"
    )
