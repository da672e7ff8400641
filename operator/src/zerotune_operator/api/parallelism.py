"""`spec.parallelism`: how a model replica is split."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from zerotune_trainer.config.base import Rule, Settings


class Parallelism(Settings):
    """How one model replica is split. Data parallelism is what remains: ranks / (tensor x sequence x pipeline)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.pipeline == 1 || self.tensor == 1 && self.sequence == 1",
            "pipeline does not go together with tensor or sequence: set one of them to 1",
            "pipeline",
        ),
    )

    tensor: int = Field(default=1, ge=1)
    """Ranks that share each layer (tensor parallelism)."""
    sequence: int = Field(default=1, ge=1)
    """Ranks that share each sequence (Ulysses)."""
    pipeline: int = Field(default=1, ge=1)
    """Stages that the layers are divided among."""
