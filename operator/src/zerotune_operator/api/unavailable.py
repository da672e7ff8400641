"""What the schema describes and this version does not carry out yet: an error that says so, never ignored.

A line leaves these tables when its feature arrives; nothing else has to change.
"""

from __future__ import annotations

from zerotune_trainer.config.base import Rule


def _until_available(field: str, asked_for: str, name: str, instead: str) -> Rule:
    return Rule(f"!({asked_for})", f"{name} is not carried out by this version of zerotune; {instead}", field)


_PARALLELISM = tuple(
    _until_available(
        f"parallelism.{kind}",
        f"self.parallelism.{kind} > 1",
        f"parallelism.{kind} above 1",
        "leave it out, or set it to 1",
    )
    for kind in ("tensor", "sequence", "pipeline")
)

UNAVAILABLE_FOR_TRAINING = (
    *(
        _until_available("method", f"self.method == '{method}'", f"method {method}", "use cpt or sft")
        for method in ("dpo", "orpo", "kto")
    ),
    _until_available("adapter", "has(self.adapter)", "adapter", "leave it out: all parameters are trained"),
    *_PARALLELISM,
    *(
        _until_available(f"zero.{field}", f"self.zero.{field} == 'nvme'", f"zero.{field}: nvme", "use cpu or auto")
        for field in ("offloadOptimizer", "offloadParam")
    ),
)
"""Of a FineTuneJob's spec."""

UNAVAILABLE_FOR_INFERENCE = (
    *(
        _until_available("engine", f"self.engine == '{engine}'", f"engine {engine}", "use transformers or auto")
        for engine in ("deepspeed", "zero")
    ),
    *_PARALLELISM,
)
"""Of an InferenceJob's spec."""
