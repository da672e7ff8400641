"""The tables of TrainingArguments and of DeepSpeed's keys are those of the libraries we are pinned to."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from zerotune_trainer.training import argument_table, deepspeed_table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "table"),
    [("training_arguments.json", argument_table.table), ("deepspeed_keys.json", deepspeed_table.table)],
    ids=["TrainingArguments", "DeepSpeed"],
)
def test_r17_the_table_is_what_the_library_has(name: str, table: Callable[[], dict[str, Any]]) -> None:
    assert json.loads(files("zerotune_trainer.config").joinpath(name).read_text()) == table()
