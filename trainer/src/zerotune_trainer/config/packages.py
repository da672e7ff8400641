"""Packages that an engine, an adapter or values of `training.arguments` need, and an image may lack. Torch-free.

transformers imports them when a Trainer is made: only then, with all data prepared and the model loaded, would it be
known that one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.errors import ConfigurationError

OWN_PACKAGES = frozenset({"bitsandbytes"})
"""Those that zerotune's own image of the trainer has; one of the user's may lack them."""
_MODULES_OF_REPORTERS = {
    "azure_ml": "azureml",
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "comet_ml": "comet_ml",
    "dagshub": "dagshub",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""Modules that the values of `report_to` need (transformers/integrations/integration_utils.py)."""
TRACKERS = ("kubeflow", *_MODULES_OF_REPORTERS)
"""What can be reported to."""
REPORTERS = ("none", "all", *TRACKERS)
"""The values of `report_to`."""
_OPTIMIZERS = (
    ("galore", "galore_torch"),
    ("apollo", "apollo_torch"),
    ("lomo", "lomo_optim"),
    ("grokadamw", "grokadamw"),
    ("schedule_free", "schedulefree"),
    ("stable_adamw", "optimi"),
    ("anyprecision", "torchdistx"),
    ("torch_4bit", "torchao"),
    ("torch_8bit", "torchao"),
    ("torch_xla", "torch_xla"),
    ("torch_npu", "torch_npu"),
    ("bnb", "bitsandbytes"),
    ("8bit", "bitsandbytes"),
    ("32bit", "bitsandbytes"),
    ("ademamix", "bitsandbytes"),
)
"""Parts of the names of optimizers, the first that fits, with the module they need (transformers.trainer_optimizer)."""


class MissingPackage(NamedTuple):
    """A package that is not there."""

    argument: str
    """What needs it: `report_to`."""
    value: str
    """And its value: `wandb`."""
    module: str

    def __str__(self) -> str:
        """`is 'wandb', which needs the Python package wandb`."""
        return f"is {self.value!r}, which needs the Python package {self.module}"


def is_installed(module: str) -> bool:
    """Whether a module can be imported by this interpreter."""
    return find_spec(module) is not None


def missing_packages(arguments: Mapping[str, Any], is_there: Callable[[str], bool]) -> Iterator[MissingPackage]:
    """The packages that `training.arguments` ask for and that are not there.

    Args:
        arguments: By their names in TrainingArguments.
        is_there: Whether a module is there where the ranks run.
    """
    for argument, value, module in _needed(arguments):
        if not is_there(module):
            yield MissingPackage(argument, value, module)


def require_packages(arguments: Mapping[str, Any]) -> None:
    """See that this interpreter has what `training.arguments` ask for.

    Raises:
        ConfigurationError: a package is missing.
    """
    for missing in missing_packages(arguments, is_installed):
        raise ConfigurationError(
            f"training.arguments.{missing.argument} {missing}, and this image has none",
            f"leave {missing.argument} out, or add {missing.module} to the trainer's image",
        )


def require_engine(engine: str) -> None:
    """See that this interpreter has what an engine needs.

    Raises:
        ConfigurationError: its package is missing.
    """
    _require(f"engine {engine}", engine_packages(engine), "take another engine")


def require_adapter(adapter: Adapter | None) -> None:
    """See that this interpreter has what an adapter needs.

    Raises:
        ConfigurationError: its package is missing.
    """
    _require("adapter.type qlora", adapter_packages(adapter), "set adapter.type: lora")


def _require(what: str, modules: Iterable[str], remedy: str) -> None:
    for module in modules:
        if not is_installed(module):
            raise ConfigurationError(
                f"{what} needs the Python package {module}, and this image has none",
                f"{remedy}, or add {module} to the trainer's image",
            )


def adapter_packages(adapter: Adapter | None) -> tuple[str, ...]:
    """The packages that an adapter needs besides peft."""
    return ("bitsandbytes",) if adapter is not None and adapter.base_quantization else ()


def engine_packages(engine: str) -> tuple[str, ...]:
    """The packages that an engine needs besides the trainer's own."""
    return ("vllm",) if engine == "vllm" else ()


def _needed(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    reporters = arguments.get("report_to") or []
    for name in [reporters] if isinstance(reporters, str) else reporters:
        if name in _MODULES_OF_REPORTERS:
            yield "report_to", name, _MODULES_OF_REPORTERS[name]
    optimizer = str(arguments.get("optim") or "")
    module = next((module for part, module in _OPTIMIZERS if part in optimizer), None)
    if module is not None:
        yield "optim", optimizer, module
