"""The models that a FineTuneJob writes, its output and its checkpoints, for the jobs that start from them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import Origin, model_origin
from zerotune_trainer.config.adapter import Adapter, stored_from
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError, InputMissingError


def shape_of_output(adapter: Adapter | None, shape: ModelShape, model_uri: str) -> ModelShape:
    """The shape of a FineTuneJob's output: that of its model, or of the base where the output is an adapter.

    Args:
        adapter: What the job trains instead of all parameters.
        shape: The model that it starts from.
        model_uri: Where that model is, as a user writes it.
    """
    is_adapter = adapter is not None and not adapter.merge
    base = (shape.base_uri or shape.checkpoint_base or model_uri) if is_adapter else None
    stored = stored_from(adapter) if adapter is not None and is_adapter else None
    return shape.model_copy(update={"base_uri": base, "adapter": stored, "checkpoint_base": None})


@contextmanager
def reading_output(job: Job, uri: str) -> Iterator[None]:
    """While the model of a job is read: say of the FineTuneJob that is to have written it that it wrote none.

    Args:
        job: The job that starts from it.
        uri: Where the model is.

    Raises:
        InputMissingError: there is none.
    """
    try:
        yield
    except InputMissingError as error:
        origin = model_origin(job)
        if origin is None or job.spec.model.checkpoint is not None:
            raise
        raise InputMissingError(
            f"{origin.kind} {origin.name} wrote no model (no config.json in {uri}): {error.message}",
            f"have that job write a model to its output, as `save_pretrained` does, or name another in {origin.path}",
        ) from error


def checkpoint_of(
    spec: Mapping[str, Any], origin: Origin, name: str, shape: ModelShape, model_uri: str
) -> tuple[str, ModelShape]:
    """A checkpoint of a FineTuneJob as the model of another job: its name below the job's folder of checkpoints is
    appended to what `checkpoint.uri` and `output.uri` say.

    Args:
        spec: That of the FineTuneJob, as files have it.
        origin: What names it.
        name: `checkpoint-STEP`.
        shape: The model that the FineTuneJob starts from.
        model_uri: Where that model is.

    Raises:
        ConfigurationError: its checkpoints are not those of a whole model of that shape.
    """
    if spec.get("adapter") or spec.get("method") == "script" or spec["model"].get("resizeEmbeddings"):
        raise ConfigurationError(
            f"model.checkpoint: {origin} trains an adapter, grows the embeddings or runs a script, and its checkpoints "
            "are not those of a model like the one that it starts from",
            "leave model.checkpoint out, and start from its output",
        )
    folder = (spec.get("checkpoint") or {}).get("uri") or f"{spec['output']['uri'].rstrip('/')}/checkpoints"
    base = shape.checkpoint_base or shape.base_uri or model_uri
    return f"{folder.rstrip('/')}/{name}", shape.model_copy(
        update={"base_uri": None, "adapter": None, "checkpoint_base": base}
    )
