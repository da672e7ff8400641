"""The table of TrainingArguments is that of the transformers we are pinned to."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from zerotune_trainer.training.argument_table import table


@pytest.mark.slow
def test_r17_the_table_is_what_transformers_has() -> None:
    text = files("zerotune_trainer.config").joinpath("training_arguments.json").read_text()
    assert json.loads(text) == table()
