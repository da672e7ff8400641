"""The tables of TrainingArguments and of DeepSpeed's keys are those of the libraries we are pinned to."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from zerotune_trainer.config.arguments import known
from zerotune_trainer.config.optimizer import DEFAULT_OPTIMIZER, OPTIM_ARGS, READERS
from zerotune_trainer.training import argument_table, deepspeed_table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "table"),
    [("training_arguments.json", argument_table.table), ("deepspeed_keys.json", deepspeed_table.table)],
    ids=["TrainingArguments", "DeepSpeed"],
)
def test_r17_the_table_is_what_the_library_has(name: str, table: Callable[[], dict[str, Any]]) -> None:
    assert json.loads(files("zerotune_trainer.config").joinpath(name).read_text()) == table()


def test_what_optimizers_read_is_said_of_optimizers_that_there_are() -> None:
    optim = known()["optim"]
    assert optim.default == DEFAULT_OPTIMIZER
    named = {name for names in (*READERS.values(), OPTIM_ARGS) for name in names}
    assert named <= set(optim.choices or ())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"])
def test_an_optimizer_reads_what_the_tables_say(name: str, tmp_path: Path) -> None:
    """Those that need no further package; the others are made of the same parts."""
    from transformers import Trainer, TrainingArguments

    def made(**options: Any) -> tuple[Any, dict[str, Any]]:
        arguments = TrainingArguments(output_dir=str(tmp_path), optim=name, use_cpu=True, **options)
        return Trainer.get_optimizer_cls_and_kwargs(arguments)

    for field, value in {"adam_beta1": 0.5, "adam_beta2": 0.6, "adam_epsilon": 1e-5}.items():
        assert (made(**{field: value}) != made()) == (name in READERS[to_camel(field)])
    options = OPTIM_ARGS.get(name, ("momentum", "eps"))
    for option in options:
        value = "true" if option in ("nesterov", "centered") else "0.25"
        assert (made(optim_args=f"{option}={value}") != made()) == (name in OPTIM_ARGS)
