"""A model's shape as the operator's processes read it: what lies on S3 through a process of its own."""

from __future__ import annotations

from zerotune_operator.backends.local.remote_files import read_remote
from zerotune_trainer.sizing import model_config
from zerotune_trainer.sizing.model_config import shape_of_file
from zerotune_trainer.sizing.shape import ModelShape

__all__ = ["model_shape", "shape_of_file"]


def model_shape(uri: str, revision: str | None = None) -> ModelShape:
    """The shape of the model at `hf://ORG/NAME`, `s3://BUCKET/PREFIX` or `file:///PATH`.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `sizing.model_config.model_shape` says.
    """
    return model_config.model_shape(uri, revision, read_remote)
