"""What generates for an InferenceJob. Each engine implements `inference.engine.Engine`; this is the list of them."""

from __future__ import annotations

from zerotune_trainer.config import InferConfig
from zerotune_trainer.engines.transformers import TransformersEngine
from zerotune_trainer.engines.zero import ZeroEngine
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.inference.engine import Engine

ENGINES: dict[str, type[Engine]] = {
    "auto": TransformersEngine,
    "transformers": TransformersEngine,
    "zero": ZeroEngine,
}
"""The engines that there are, by their names in the spec."""


def engine_class(config: InferConfig) -> type[Engine]:
    """The engine that a job asks for.

    Raises:
        ConfigurationError: it is not there yet.
    """
    if config.engine not in ENGINES:
        raise ConfigurationError(f"engine {config.engine} is not there yet", "use engine: transformers")
    return ENGINES[config.engine]
