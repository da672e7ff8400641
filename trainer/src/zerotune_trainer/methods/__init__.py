"""What each method of a FineTuneJob trains with, one file each.

base.py        what a method brings along
next_token.py  cpt and sft: both predict the next token; `data` decides which tokens of which text count
preference.py  what dpo.py, orpo.py and kto.py have in common
"""

from __future__ import annotations

from zerotune_trainer.config.methods import Method as MethodName
from zerotune_trainer.methods.base import Method
from zerotune_trainer.methods.dpo import Dpo
from zerotune_trainer.methods.kto import Kto
from zerotune_trainer.methods.next_token import NextToken
from zerotune_trainer.methods.orpo import Orpo

_METHODS: dict[MethodName, Method] = {
    "cpt": NextToken(),
    "sft": NextToken(),
    "dpo": Dpo(),
    "orpo": Orpo(),
    "kto": Kto(),
}


def method_of(name: MethodName) -> Method:
    """The method of a name."""
    return _METHODS[name]
