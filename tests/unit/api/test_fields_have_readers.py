"""No field of a configuration is accepted and then ignored: something outside its own definition reads it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from pydantic import create_model
from pydantic.alias_generators import to_camel, to_snake

import zerotune_operator
import zerotune_trainer
from zerotune_operator.api.fields import all_fields
from zerotune_operator.api.jobs import FineTuneJobSpec, InferenceJobSpec
from zerotune_operator.api.support import BACKENDS, UNSUPPORTED
from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.training import Checkpoint

TRAINER, OPERATOR = (Path(package.__path__[0]) for package in (zerotune_trainer, zerotune_operator))
WHOLE = {
    **{
        line.field: "supported by no backend"
        for lines in UNSUPPORTED.values()
        for line in lines
        if line.backends == BACKENDS and not line.values and not line.schemes and line.above is None
    },
    "preference": "of methods that are not supported",
    **dict.fromkeys(("adapter.type", "adapter.quantization"), "read as adapter.base_quantization"),
    "training.lrSchedulerKwargs": "handed on as it is",
    "modelShape": "compared as a whole",
    "plugin.configMap": "mounted by the backend, which makes a file of it",
    "plugin.file": "read as plugin.uri",
    **dict.fromkeys(
        (
            f"{part}.fromInferenceJob"
            for part in (
                *("data", "data.train", "data.validation", "data.replay"),
                *("evaluation.control", "evaluation.generation.data"),
            )
        ),
        "read by name in api/origins.py",
    ),
}
"""Parts whose fields nobody need name."""
SETTLED = {
    "globalBatchSize": "the plan makes micro batch and accumulation of it",
    "fromFineTuneJob": "the plan makes a URI of it",
    "fromInferenceJob": "the plan makes a URI of it",
    "credentials": "the backend makes variables of the environment of it",
    "secretName": "part of credentials",
    "sameResultAs": "the digest of the configuration gives it",
}
"""Fields that a rank's configuration carries and need not read."""


CALLED = {
    "train": ("records",),
    "validation": ("records",),
    "replay": ("records", "texts"),
    "control": ("records", "texts"),
    "data": ("records",),
    "generation": ("options", "settings"),
    "runPolicy": ("policy",),
    "kubernetes": ("backend", "backend_of"),
    "metadata": ("users",),
    "credentials": ("each",),
    "channels": ("channel",),
    "origins": ("origin",),
    "fileSystemDataSource": ("file_system", "source"),
}
"""What code calls a part of a spec, beside its own name."""
BY_NAME = {"training": TRAINER / "training" / "arguments.py"}
"""Parts whose fields are handed on by name, and the module that lists them."""


@cache
def reads(package: Path, schema: str) -> frozenset[tuple[str, str]]:
    """Each attribute that is read, with what it is read of, in the code of a package that is not its schema."""
    trees = [ast.parse(path.read_text()) for path in package.rglob("*.py") if path.parent != package / schema]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return frozenset((_owner(node.value), to_snake(node.attr)) for node in nodes if isinstance(node.ctx, ast.Load))


def _owner(node: ast.expr) -> str:
    """`data` in `spec.data`, `self._data` and `data(spec)`."""
    if isinstance(node, ast.Call):
        return _owner(node.func)
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.lstrip("_")


@cache
def listed(module: Path) -> frozenset[str]:
    """The names that stand in the strings of a module."""
    nodes = ast.walk(ast.parse(module.read_text()))
    return frozenset(
        to_snake(node.value) for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def ignored(model: type[Settings], read: frozenset[tuple[str, str]], part: str = "") -> set[str]:
    """The fields that nothing reads of the part that they are in; `part`: what `model` itself is called."""
    return {
        ".".join(path)
        for path in (tuple(map(str, place)) for place in all_fields(model))
        if not any(".".join(path[:length]) in WHOLE for length in range(1, len(path) + 1))
        and not _is_read(path[-2] if len(path) > 1 else part, path[-1], read)
    }


def _is_read(part: str, field: str, read: frozenset[tuple[str, str]]) -> bool:
    name = to_snake(field)
    if not part:
        return any(name == attribute for _, attribute in read)
    named = part in BY_NAME and name in listed(BY_NAME[part])
    return named or any((owner, name) in read for owner in (to_snake(part), *CALLED.get(part, ())))


@pytest.mark.slow
@pytest.mark.parametrize("spec", [FineTuneJobSpec, InferenceJobSpec])
def test_every_field_of_a_spec_is_read_or_rejected(spec: type[Settings]) -> None:
    assert ignored(spec, reads(OPERATOR, "api") | reads(TRAINER, "config")) == set()


@pytest.mark.slow
@pytest.mark.parametrize("config", [TrainConfig, InferConfig])
def test_every_field_of_a_configuration_is_read_by_the_trainer(config: type[Settings]) -> None:
    assert _unsettled(ignored(config, reads(TRAINER, "config"))) == set()


def _unsettled(paths: set[str]) -> set[str]:
    return {path for path in paths if path.rpartition(".")[2] not in SETTLED}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["read_by_nobody", "seed", "uris", "stage"])
def test_a_field_that_is_read_of_no_such_part_is_found(name: str) -> None:
    """Also one that has the name of a field of another part."""
    extended = create_model("Extended", __base__=Checkpoint, **{name: (int, 0)})

    assert _unsettled(ignored(extended, reads(TRAINER, "config"), "checkpoint")) == {to_camel(name)}
