"""`spec.adapter`: what is trained beside the model."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from zerotune_trainer.config.base import Number, Rule, Settings


class Adapter(Settings):
    """Train a low-rank adapter instead of all parameters."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.quantization) || self.type == 'qlora'",
            "quantization is for type: qlora; lora keeps the base as it is: set type: qlora, or leave quantization out",
            "quantization",
        ),
    )

    type: Literal["lora", "qlora"]
    """LoRA, or LoRA over a quantized base."""
    quantization: Literal["nf4", "fp4", "int8"] | None = None
    """Number format of a qlora base (bitsandbytes). Default: nf4."""
    r: int = Field(default=16, ge=1)
    """Rank of the adapter."""
    alpha: int = Field(default=32, ge=1)
    """Scale of the adapter: alpha / r."""
    dropout: Number = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: list[str] = Field(default=["all-linear"], min_length=1, max_length=256)
    """Modules that get an adapter, by name; `all-linear`: every linear layer but the head."""
