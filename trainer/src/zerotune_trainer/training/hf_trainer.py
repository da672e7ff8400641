"""transformers' Trainer, as `compat` imports it."""

from __future__ import annotations

from zerotune_trainer import compat

with compat.datasets_on_demand():
    from transformers.trainer import Trainer

__all__ = ["Trainer"]
