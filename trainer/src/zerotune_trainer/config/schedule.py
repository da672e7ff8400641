"""The learning rate's schedule: its names, the options each has, and what an option goes with."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zerotune_trainer.config.base import Number, Rule, Settings

Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "warmup_stable_decay",
]
Curve = Literal["linear", "cosine", "1-sqrt"]


class ScheduleOptions(Settings):
    """Options of a schedule, named as transformers names them."""

    model_config = Settings.model_config | {"alias_generator": None}

    num_cycles: Number | None = Field(default=None, gt=0)
    """Waves of a cosine, or restarts of cosine_with_restarts."""
    lr_end: Number | None = Field(default=None, ge=0)
    """Learning rate that polynomial ends at."""
    power: Number | None = Field(default=None, gt=0)
    """Exponent of polynomial."""
    timescale: int | None = Field(default=None, ge=1)
    """Steps in which inverse_sqrt falls by its root."""
    min_lr: Number | None = Field(default=None, ge=0)
    """Learning rate that cosine_with_min_lr ends at."""
    min_lr_rate: Number | None = Field(default=None, ge=0, le=1)
    """The same as a share of the peak."""
    num_decay_steps: int | None = Field(default=None, ge=1)
    """Steps in which warmup_stable_decay falls from the peak."""
    num_stable_steps: int | None = Field(default=None, ge=0)
    """Steps warmup_stable_decay stays at the peak. Default: all that warm-up and decay leave."""
    warmup_type: Curve | None = None
    """Curve of warmup_stable_decay's warm-up. Default: linear."""
    decay_type: Curve | None = None
    """Curve of warmup_stable_decay's decay. Default: cosine."""
    min_lr_ratio: Number | None = Field(default=None, ge=0, le=1)
    """Share of the peak that warmup_stable_decay ends at."""


_WSD = "warmup_stable_decay"
SCHEDULES_WITH = {
    "num_cycles": ("cosine", "cosine_with_restarts", "cosine_with_min_lr", _WSD),
    "lr_end": ("polynomial",),
    "power": ("polynomial",),
    "timescale": ("inverse_sqrt",),
    "min_lr": ("cosine_with_min_lr",),
    "min_lr_rate": ("cosine_with_min_lr",),
    "num_decay_steps": (_WSD,),
    "num_stable_steps": (_WSD,),
    "warmup_type": (_WSD,),
    "decay_type": (_WSD,),
    "min_lr_ratio": (_WSD,),
}
"""Which schedules take an option: transformers ignores it, or fails at the first step, with any other."""


def _goes_with(option: str, schedules: tuple[str, ...]) -> Rule:
    return Rule(
        f"!has(self.lrSchedulerKwargs.{option}) || self.lrSchedulerType in {list(schedules)}",
        f"{option} is for lrSchedulerType {' or '.join(schedules)}: choose that schedule, or leave {option} out",
        f"lrSchedulerKwargs.{option}",
    )


SCHEDULE_RULES = (
    Rule(
        "self.lrSchedulerType != 'cosine_with_min_lr' "
        "|| has(self.lrSchedulerKwargs.min_lr) != has(self.lrSchedulerKwargs.min_lr_rate)",
        "cosine_with_min_lr needs lrSchedulerKwargs.min_lr or lrSchedulerKwargs.min_lr_rate: give exactly one of them",
        "lrSchedulerKwargs",
    ),
    Rule(
        f"self.lrSchedulerType != '{_WSD}' || has(self.lrSchedulerKwargs.num_decay_steps)",
        "warmup_stable_decay needs lrSchedulerKwargs.num_decay_steps: give it a number of steps",
        "lrSchedulerKwargs",
    ),
    Rule(
        "self.lrSchedulerType != 'constant' || self.warmupSteps == 0.0",
        "warmupSteps has no effect with lrSchedulerType constant: set constant_with_warmup, or leave warmupSteps out",
        "warmupSteps",
    ),
    Rule(
        "!has(self.maxSteps) || !has(self.lrSchedulerKwargs.num_decay_steps) "
        "|| (self.warmupSteps < 1.0 ? 0.0 : self.warmupSteps) + double(self.lrSchedulerKwargs.num_decay_steps) "
        "+ (has(self.lrSchedulerKwargs.num_stable_steps) ? double(self.lrSchedulerKwargs.num_stable_steps) : 0.0) "
        "<= double(self.maxSteps)",
        "warmupSteps, num_stable_steps and num_decay_steps together must not exceed maxSteps: the learning rate would "
        "not reach its peak, or not its end",
        "lrSchedulerKwargs.num_decay_steps",
    ),
    *(_goes_with(option, schedules) for option, schedules in SCHEDULES_WITH.items()),
)
"""Of `training`, which has the fields `lrSchedulerType` and `lrSchedulerKwargs`."""
