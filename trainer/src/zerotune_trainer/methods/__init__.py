"""What each method of a FineTuneJob trains with, one file each.

base.py        what a method brings along
next_token.py  cpt and sft: both predict the next token; `data` decides which tokens of which text count
"""

from __future__ import annotations

from zerotune_trainer.config.training import Method as MethodName
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.methods.base import Method
from zerotune_trainer.methods.next_token import NextToken

_METHODS: dict[MethodName, Method] = {"cpt": NextToken(), "sft": NextToken()}


def method_of(name: MethodName) -> Method:
    """The method of a name.

    Raises:
        ConfigurationError: it is not supported yet.
    """
    if name not in _METHODS:
        raise ConfigurationError(f"method {name} is not carried out yet", f"use one of {', '.join(_METHODS)}")
    return _METHODS[name]
