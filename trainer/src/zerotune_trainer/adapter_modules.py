"""The modules of a model that an adapter lies on, and those that are trained whole, as a job names them.

peft takes a name that no module has for none, and an adapter of a folder as it is: both are said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from zerotune_trainer.config.adapter import ALL_LINEAR, Adapter
from zerotune_trainer.data.columns import did_you_mean
from zerotune_trainer.errors import ConfigurationError

_MOST_NAMES = 32
_MADE_BY_PEFT = r".*\."
"""What the patterns begin with that peft gives the fused experts of a mixture."""
_GOES_ON = "training goes on with the adapter as it is"


def require_whole_modules(model: nn.Module, adapter: Adapter) -> None:
    """See that each name of `modulesToSave` is that of a module, or the end of one.

    Raises:
        ConfigurationError: one is not.
    """
    paths = [path for path, _ in model.named_modules() if path]
    for name in adapter.modules_to_save:
        if not any(path.endswith(name) for path in paths):
            raise _no_such_module("modulesToSave", name, _last_names(paths))


def require_targets(attached: PeftModel, adapter: Adapter) -> None:
    """See that a new adapter lies on a module for each name of `targetModules`; peft may know one by a newer name.

    Raises:
        ConfigurationError: it does not.
    """
    tuner: Any = attached.base_model
    found = {f".{path}" for path in tuner.targeted_module_names}
    for name in _config(attached).target_modules or ():
        if name in adapter.target_modules and not any(path.endswith(f".{name}") for path in found):
            raise _no_such_module("targetModules", name, linear_names(attached.get_base_model()))


def linear_names(model: nn.Module) -> list[str]:
    """The last names of the linear layers: what `targetModules` may hold."""
    return _last_names(_linear_paths(model))


def differences(attached: PeftModel, adapter: Adapter, folder: Path) -> list[str]:
    """In what the adapter of a folder, with which training goes on, is another than a job asks for; a sentence each.

    What `require_same` compares is the same.
    """
    base, config = attached.get_base_model(), _config(attached)
    wanted = set(filter(_is_wanted(adapter), _linear_paths(base)))
    adapted = {path for path, module in base.named_modules() if _is_adapted(module)}
    missing, more = sorted(wanted - adapted), sorted(adapted - wanted)
    patterns = {**(config.rank_pattern or {}), **(config.alpha_pattern or {})}
    others = [name for name in patterns if not name.startswith(_MADE_BY_PEFT)]
    found = []
    if missing:
        found.append(
            f"{folder} holds an adapter that lies on {len(wanted) - len(missing)} of the {len(wanted)} layers which "
            f"adapter.targetModules asks for, and not on {', '.join(_last_names(missing))}: {_GOES_ON}"
        )
    if more:
        found.append(
            f"{folder} holds an adapter that lies on {', '.join(_last_names(more))} as well, which "
            f"adapter.targetModules does not ask for: {_GOES_ON}"
        )
    if others:
        found.append(
            f"{folder} holds an adapter with another rank or scale than adapter.r and adapter.alpha on "
            f"{', '.join(sorted(others)[:8])} (rank_pattern and alpha_pattern of its configuration): {_GOES_ON}"
        )
    return found


def _is_adapted(module: nn.Module) -> bool:
    """Whether a module is a layer with an adapter; the parameters of experts, which peft wraps too, are none."""
    return isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper)


def _config(attached: PeftModel) -> LoraConfig:
    return cast("LoraConfig", attached.peft_config["default"])


def _is_wanted(adapter: Adapter) -> Callable[[str], bool]:
    if adapter.target_modules == [ALL_LINEAR]:
        return lambda _: True
    ends = tuple(f".{name}" for name in adapter.target_modules)
    return lambda path: f".{path}".endswith(ends)


def _linear_paths(model: nn.Module) -> Iterator[str]:
    """Paths of the linear layers but the head, those with an adapter among them."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None  # type: ignore[no-untyped-call]
    within = "."
    for path, module in model.named_modules():
        if path.startswith(within):
            continue
        if isinstance(module, LoraLayer | ModulesToSaveWrapper):
            within = f"{path}."  # What follows is below it, until all of that has come.
        if _is_adapted(module) or (isinstance(module, nn.Linear | Conv1D) and module is not head):
            yield path


def _last_names(paths: Iterable[str]) -> list[str]:
    names = {path.rpartition(".")[2] for path in paths}
    return sorted(name for name in names if not name.isdecimal())[:_MOST_NAMES]


def _no_such_module(field: str, name: str, names: list[str]) -> ConfigurationError:
    hint = did_you_mean(name.rpartition(".")[2], names)
    return ConfigurationError(f"adapter.{field} names {name!r}, and the model has no such module", hint)
