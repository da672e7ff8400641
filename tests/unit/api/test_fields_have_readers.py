"""No field of a configuration is accepted and then ignored: something outside its own definition reads it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic.alias_generators import to_snake

import zerotune_operator
import zerotune_trainer
from zerotune_operator.api.fields import all_fields
from zerotune_operator.api.jobs import FineTuneJobSpec, InferenceJobSpec
from zerotune_operator.api.support import BACKENDS, UNSUPPORTED
from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.generation import Generation

TRAINER, OPERATOR = (Path(package.__path__[0]) for package in (zerotune_trainer, zerotune_operator))
WHOLE = {
    **{
        line.field: "supported by no backend"
        for lines in UNSUPPORTED.values()
        for line in lines
        if line.backends == BACKENDS and not line.values and not line.schemes and line.above is None
    },
    "preference": "of methods that are not supported",
    "training.lrSchedulerKwargs": "handed on as it is",
    "modelShape": "compared as a whole",
}
"""Parts whose fields nobody need name."""
SETTLED = {
    "globalBatchSize": "the plan makes micro batch and accumulation of it",
    "fromFineTuneJob": "the plan makes a URI of it",
    "credentials": "the backend makes variables of the environment of it",
    "secretName": "part of credentials",
}
"""Fields that a rank's configuration carries and need not read."""


@cache
def words(package: Path, schema: str) -> set[str]:
    """Attributes that are read and names that stand in strings, in the code of a package that is not its schema."""
    trees = [ast.parse(path.read_text()) for path in package.rglob("*.py") if path.parent != package / schema]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {part for node in nodes for part in _names(node)}


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
        yield from map(to_snake, node.value.split("."))


def ignored(model: type[Settings], read: set[str]) -> set[str]:
    paths = {".".join(map(str, path)) for path in all_fields(model)}
    within = {path for path in paths for part in WHOLE if path.startswith(f"{part}.")}
    return {path for path in paths - within if path not in WHOLE and to_snake(path.rpartition(".")[2]) not in read}


@pytest.mark.parametrize("spec", [FineTuneJobSpec, InferenceJobSpec])
def test_every_field_of_a_spec_is_read_or_refused(spec: type[Settings]) -> None:
    assert ignored(spec, words(OPERATOR, "api") | words(TRAINER, "config")) == set()


@pytest.mark.parametrize("config", [TrainConfig, InferConfig])
def test_every_field_of_a_configuration_is_read_by_the_trainer(config: type[Settings]) -> None:
    assert ignored(config, words(TRAINER, "config") | set(map(to_snake, SETTLED))) == set()


def test_a_field_that_nobody_reads_is_found() -> None:
    class Extended(Generation):
        read_by_nobody: int = 0

    assert ignored(Extended, words(TRAINER, "config")) == {"readByNobody"}
