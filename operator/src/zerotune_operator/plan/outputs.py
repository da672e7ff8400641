"""The shape of what a FineTuneJob writes, for the jobs that start from it. Pure."""

from __future__ import annotations

from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.sizing.shape import ModelShape


def shape_of_output(adapter: Adapter | None, shape: ModelShape, model_uri: str) -> ModelShape:
    """The shape of a FineTuneJob's output: that of its model, or of the base where the output is an adapter.

    Args:
        adapter: What the job trains instead of all parameters.
        shape: The model that it starts from.
        model_uri: Where that model is, as a user writes it.
    """
    is_adapter = adapter is not None and not adapter.merge
    return shape.model_copy(update={"base_uri": (shape.base_uri or model_uri) if is_adapter else None})
