"""What generates for an InferenceJob. Each engine implements `inference.engine.Engine`; this is the list of them."""

from __future__ import annotations

from zerotune_trainer.config import InferConfig
from zerotune_trainer.engines.deepspeed import DeepSpeedEngine
from zerotune_trainer.engines.transformers import TransformersEngine
from zerotune_trainer.engines.vllm import VllmEngine
from zerotune_trainer.engines.zero import ZeroEngine
from zerotune_trainer.inference.engine import Engine

ENGINES: dict[str, type[Engine]] = {
    "auto": TransformersEngine,
    "transformers": TransformersEngine,
    "deepspeed": DeepSpeedEngine,
    "zero": ZeroEngine,
    "vllm": VllmEngine,
}
"""The engines that there are, by their names in the spec."""


def engine_class(config: InferConfig) -> type[Engine]:
    """The engine that a job asks for."""
    return ENGINES[config.engine]
