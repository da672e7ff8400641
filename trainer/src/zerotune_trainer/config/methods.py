"""What is known of a method before torch is there: the operator plans with it, the data is prepared by it.

How a method trains is a class in `zerotune_trainer.methods`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zerotune_trainer.config.data import Data, Packing

Method = Literal["cpt", "sft", "dpo", "orpo", "kto", "script"]


@dataclass(frozen=True)
class MethodTraits:
    """How the records of a method become rows, and what its name stands for."""

    title: str
    """As a model card has it."""
    packing: Packing = "none"
    """How rows share blocks unless `data.packing` says."""
    preference: Literal["pair", "judged"] | None = None
    """What a row is: two completions of a prompt, or one that was judged. None: tokens to predict one after another."""
    plain_text: bool = False
    """Whether the model goes on with a text, and answers no question."""

    @property
    def sequences_per_row(self) -> int:
        """Sequences of a row that the model trains on at once."""
        return 2 if self.preference == "pair" else 1


METHODS: dict[Method, MethodTraits] = {
    "cpt": MethodTraits("continued pre-training on plain text", packing="wrapped", plain_text=True),
    "sft": MethodTraits("supervised fine-tuning"),
    "dpo": MethodTraits("direct preference optimization (DPO)", preference="pair"),
    "orpo": MethodTraits("odds ratio preference optimization (ORPO)", preference="pair"),
    "kto": MethodTraits("Kahneman-Tversky optimization (KTO)", preference="judged"),
    "script": MethodTraits("training by a script of the user's own"),
}


def packing_of(method: Method, data: Data) -> Packing:
    """How rows share blocks: as the spec says, else as the method has it."""
    return data.packing or METHODS[method].packing
