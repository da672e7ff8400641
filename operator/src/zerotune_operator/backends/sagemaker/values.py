"""Values of `backend.sagemaker` that AWS would reject, or that would fail on an instance that is paid for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zerotune_operator.api.backend import SageMakerSpec
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.manifest_yaml import Path, Problem
from zerotune_operator.api.remedies import wrong_account
from zerotune_operator.backends.sagemaker.layout import OWN_FOLDER, files_uri, sagemaker_of
from zerotune_operator.backends.uris import uris_of

_LONGEST_URI = 1024
_IMAGE = re.compile(
    r"[0-9]{12}\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/[a-z0-9._/-]+(?::[\w.-]{1,128}|@sha256:[0-9a-f]{64})"
)
_NEURON = re.compile(r"ml\.(trn|inf)[0-9]")
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b"}
"""By what the names of their regions begin with; all others are of `aws`."""
_PLACE = ("spec", "backend", "sagemaker")


def value_problems(job: Job) -> Iterator[Problem]:
    """What cannot work of the instance types, the image, the role, the expressions of metrics, and the URIs."""
    sagemaker = sagemaker_of(job)
    yield from _neuron_types(sagemaker)
    yield from _image_and_role(sagemaker)
    yield from _metrics(sagemaker)
    yield from _output(job)
    yield from _own_folders(job)


def instance_types_of(sagemaker: SageMakerSpec) -> Iterator[tuple[Path, str]]:
    """The instance types that a job names, each with its place in the manifest."""
    if sagemaker.instance_type is not None:
        yield (*_PLACE, "instanceType"), sagemaker.instance_type
    yield from (((*_PLACE, "instanceTypes", index), name) for index, name in enumerate(sagemaker.instance_types))


def _neuron_types(sagemaker: SageMakerSpec) -> Iterator[Problem]:
    for place, name in instance_types_of(sagemaker):
        if _NEURON.match(name):
            yield Problem(
                place,
                f"is {name!r}: its accelerators are AWS Trainium or Inferentia, which need PyTorch for Neuron, and the "
                "trainer image has PyTorch and DeepSpeed for NVIDIA GPUs and CPUs: choose such a type, as "
                "ml.p4d.24xlarge",
            )


def _image_and_role(sagemaker: SageMakerSpec) -> Iterator[Problem]:
    region = sagemaker.region
    if sagemaker.image is not None:
        found = _IMAGE.fullmatch(sagemaker.image)
        if found is None:
            yield Problem(
                (*_PLACE, "image"),
                f"is {sagemaker.image!r}: {_wrong_account(sagemaker.image)}SageMaker takes images of ECR: write "
                "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG, or NAME@sha256:DIGEST",
            )
        elif region is not None and found[1] != region:
            yield Problem(
                (*_PLACE, "image"),
                f"is in {found[1]}, and backend.sagemaker.region is {region}: SageMaker takes images of the same "
                "region: push it there, or run the job here",
            )
        region = region or (found[1] if found else None)
    if sagemaker.role_arn is not None and region is not None:
        yield from _role(sagemaker.role_arn, region)


def _wrong_account(image: str) -> str:
    account, is_of_ecr, _ = image.partition(".dkr.ecr")
    wrong = wrong_account(account) if is_of_ecr else ""
    return f"{wrong}. " if wrong else ""


def _role(arn: str, region: str) -> Iterator[Problem]:
    partition = next((name for head, name in _PARTITIONS.items() if region.startswith(head)), "aws")
    if arn.split(":")[1] != partition:
        yield Problem(
            (*_PLACE, "roleArn"),
            f"is {arn!r}: roles of {region} are of the partition {partition}: name one that begins with "
            f"arn:{partition}:iam::",
        )


def _metrics(sagemaker: SageMakerSpec) -> Iterator[Problem]:
    for name, expression in sagemaker.metric_definitions.items():
        if problem := _problem_of_expression(expression):
            yield Problem((*_PLACE, "metricDefinitions", name), f"is {expression!r}: {problem}")


def _problem_of_expression(expression: str) -> str:
    try:
        groups = re.compile(expression).groups
    except re.error as error:
        return f"it is no regular expression: {error}"
    return "" if groups else "it has no group, which is the value: write one, as in loss=([0-9.]+)"


def _own_folders(job: Job) -> Iterator[Problem]:
    """What is read or written where an attempt of this or another job has its files, the secret of its ranks too."""
    places: list[tuple[Path, str]] = [(("spec", *field.split(".")), uri) for field, uri, _ in uris_of(job)]
    for index, channel in enumerate(sagemaker_of(job).channels):
        places.append(((*_PLACE, "channels", index, "s3Uri"), channel.s3_uri or ""))
    for place, uri in places:
        if OWN_FOLDER in uri.split("/"):
            yield Problem(
                place,
                f"is {uri!r}: in {OWN_FOLDER} are the files by which an attempt runs, with the secret of its ranks: "
                "name a folder outside of it",
            )


def _output(job: Job) -> Iterator[Problem]:
    if job.spec.output.uri is None:
        return
    length = len(files_uri(job, 0))
    if length >= _LONGEST_URI:
        yield Problem(
            ("spec", "output", "uri"),
            f"is too long: the folder of an attempt in it has {length} characters, and SageMaker takes URIs below "
            f"{_LONGEST_URI}: shorten it by {length - _LONGEST_URI + 1} or more",
        )
