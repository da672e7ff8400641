"""A model's shape as the operator's processes read it: what lies on S3 through a process of its own."""

from __future__ import annotations

from collections.abc import Callable

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.backends.local.remote_files import read_remote
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing import model_config
from zerotune_trainer.sizing.model_config import shape_of_file

__all__ = ["model_shape", "reference_shape", "shape_of_file"]


def model_shape(uri: str, revision: str | None = None) -> ModelShape:
    """The shape of the model at `hf://ORG/NAME`, `s3://BUCKET/PREFIX` or `file:///PATH`.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `sizing.model_config.model_shape` says.
    """
    return model_config.model_shape(uri, revision, read_remote)


def reference_shape(job: Job, resolve: Callable[[str], str]) -> ModelShape | None:
    """The shape of the model that `preference.referenceModel` names; None where the job names none.

    Args:
        job: The job.
        resolve: Makes a URI of the spec one that this machine reads.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `model_shape`.
    """
    preference = job.spec.preference if isinstance(job, FineTuneJob) else None
    named = preference.reference_model if preference else None
    return model_shape(resolve(named.uri), named.revision) if named else None
