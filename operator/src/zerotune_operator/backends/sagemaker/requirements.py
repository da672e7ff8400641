"""What SageMaker does not support: an error that says so, never ignored. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydantic import TypeAdapter

from zerotune_operator.api.backend import AwsTagKey, SageMakerSpec
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import require_none
from zerotune_operator.api.manifest_yaml import Path, Problem
from zerotune_operator.api.origins import origins
from zerotune_operator.api.problems import find_unsupported
from zerotune_operator.backends.packages import in_image, package_problems
from zerotune_operator.backends.sagemaker.channels import channel_problems, no_channel
from zerotune_operator.backends.sagemaker.environment import environment_problems
from zerotune_operator.backends.sagemaker.layout import sagemaker_of
from zerotune_operator.backends.sagemaker.secret_values import is_name_of_secret, secret_in
from zerotune_operator.backends.sagemaker.values import value_problems

_METRIC = re.compile(r".{1,255}")
_TAG_KEY = TypeAdapter(AwsTagKey).validator
OWN_PREFIX = "zerotune.dev/"
"""What the keys of zerotune's own tags begin with."""
_AWS_TAGS = "aws:"
_SEEN = "and everyone who may describe the training job, or list its tags, reads it: leave it out"


def require_sagemaker(job: Job) -> None:
    """See that training jobs of SageMaker support everything that the job asks for.

    Raises:
        InvalidManifestError: they do not.
        ConfigurationError: `backend.sagemaker` is missing.
    """
    sagemaker = sagemaker_of(job)
    packages = package_problems(
        job, in_image(sagemaker.image), "name an image that has {module} in backend.sagemaker.image"
    )
    channels = channel_problems(job, sagemaker)
    require_none(
        (*find_unsupported(job.kind, job.spec, "sagemaker"), *_names(job), *channels, *packages, *value_problems(job)),
        job,
    )


def require_readable(job: Job, outputs: Mapping[str, str]) -> None:
    """See that the instances can read what other jobs write.

    Args:
        job: The job.
        outputs: URI of the output of another job, by the part of the spec that it is for.

    Raises:
        InvalidManifestError: they cannot.
    """
    require_none(_unreadable_outputs(job, outputs), job)


def _unreadable_outputs(job: Job, outputs: Mapping[str, str]) -> Iterator[Problem]:
    for origin in origins(job):
        uri = outputs.get(origin.part, "s3://")
        if not uri.startswith("s3://"):
            is_file = uri.startswith("file://")
            reason = no_channel(sagemaker_of(job)) if is_file else "SageMaker has no such volume"
            yield Problem(
                ("spec", *origin.path.split(".")),
                f"is {origin.name!r}, a {origin.kind} that writes to {uri!r}: {reason}: give that job an output.uri on "
                "s3://",
            )


def _names(job: Job) -> Iterator[Problem]:
    """Names of variables, metrics and tags that AWS does not take, or that are zerotune's own."""
    sagemaker, place = sagemaker_of(job), ("spec", "backend", "sagemaker")
    yield from environment_problems(sagemaker.environment, (*place, "environment"))
    for name in sagemaker.metric_definitions:
        if not _METRIC.fullmatch(name):
            yield Problem(
                (*place, "metricDefinitions", name), "is no name of a metric: write 1 to 255 characters on one line"
            )
    for key in sagemaker.tags:
        if not _TAG_KEY.isinstance_python(key) or key.lower().startswith((OWN_PREFIX, _AWS_TAGS)):
            yield Problem(
                (*place, "tags", key),
                f"is no key that a tag may have here: write letters and digits of any script, blanks and _.:/=+@-, at "
                f"most 128, and nothing that begins with {OWN_PREFIX} or {_AWS_TAGS}",
            )
    yield from _secrets(sagemaker, place)


def _secrets(sagemaker: SageMakerSpec, place: Path) -> Iterator[Problem]:
    """What would show a secret elsewhere than in the environment. It is not repeated."""
    for key in sagemaker.tags:
        if is_name_of_secret(key):
            yield Problem((*place, "tags", key), f"is the name of a secret, {_SEEN}")
    experiment = sagemaker.experiment.model_dump(by_alias=True, exclude_none=True) if sagemaker.experiment else {}
    texts = {"tags": sagemaker.tags, "metricDefinitions": sagemaker.metric_definitions, "experiment": experiment}
    for field, values in texts.items():
        for name, value in values.items():
            if found := secret_in(value):
                yield Problem((*place, field, name), f"has a value that looks like a secret ({found}), {_SEEN}")
