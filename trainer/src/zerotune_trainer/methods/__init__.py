"""What each method of a FineTuneJob trains with. What differs is here; the rest is one path, `train`."""

from __future__ import annotations

from zerotune_trainer.config.training import Method
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.training.trainer import CausalTrainer

_TRAINERS: dict[Method, type[CausalTrainer]] = {"cpt": CausalTrainer, "sft": CausalTrainer}
"""Both predict the next token; `data` decides which tokens of which text count."""


def trainer_class(method: Method) -> type[CausalTrainer]:
    """The trainer of a method.

    Raises:
        ConfigurationError: a method that is not carried out yet.
    """
    if method not in _TRAINERS:
        raise ConfigurationError(f"method {method} is not carried out yet", f"use one of {', '.join(_TRAINERS)}")
    return _TRAINERS[method]
