"""Every schedule takes the options that transformers' function for it has, and no other."""

from __future__ import annotations

from inspect import signature
from typing import get_args

import pytest
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType

from zerotune_trainer.config.schedule import SCHEDULES_WITH, Schedule, ScheduleOptions

OF_THE_TRAINER = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}


@pytest.mark.parametrize("name", get_args(Schedule))
def test_options_are_those_of_transformers(name: str) -> None:
    function = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
    ours = {option for option, schedules in SCHEDULES_WITH.items() if name in schedules}
    assert ours == signature(function).parameters.keys() - OF_THE_TRAINER


def test_every_option_goes_with_a_schedule() -> None:
    assert ScheduleOptions.model_fields.keys() == SCHEDULES_WITH.keys()
