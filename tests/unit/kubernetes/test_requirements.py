"""What a cluster does not carry out is rejected, with the field and what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.kubernetes.rendering import CASES, fine_tune_job, inference_job, job_of
from zerotune_operator.backends.kubernetes.requirements import require_kubernetes
from zerotune_trainer.errors import ConfigurationError

NFS = {"kubernetes": {"pod": {"spec": {"containers": [
    {"name": "trainer", "volumeMounts": [{"name": "nfs", "mountPath": "/nfs"}]}
]}}}}  # fmt: skip
OWN_IMAGE = {"kubernetes": {"image": "registry.example/own:1"}}


@pytest.mark.parametrize("case", CASES)
def test_the_examples_can_be_carried_out(case: str) -> None:
    require_kubernetes(job_of(case))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"backend": {"local": {}}}, "backend.local is for one machine"),
        ({"model": {"uri": "file:///m"}}, "model.uri is 'file:///m', and pods have no volume there"),
        ({"model": {"uri": "file:///nfsx/m"}, "backend": NFS}, "model.uri is 'file:///nfsx/m', and pods have no"),
        ({"output": {"uri": "file:///m"}, "backend": OWN_IMAGE}, "output.uri is 'file:///m', and pods have no"),
    ],
)
@pytest.mark.parametrize("make", [fine_tune_job, inference_job])
def test_what_a_cluster_does_not_carry_out_is_rejected(make: Any, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        require_kubernetes(make(**spec))


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"data": {"train": {"uris": ["s3://ddd/d", "file:///d"]}}}, "data.train.uris"),
        ({"data": {"train": {"uris": ["s3://ddd/d"]}, "validation": {"uris": ["file:///d"]}}}, "data.validation.uris"),
        (
            {"plugin": {"file": "file:///d", "processing": "f"}},
            "plugin.file",
        ),
        ({"checkpoint": {"uri": "file:///d"}}, "checkpoint.uri"),
        (
            {"method": "dpo", "preference": {"referenceModel": {"uri": "file:///d"}}},
            "preference.referenceModel.uri",
        ),
        ({"method": "script", "script": {"file": "file:///d"}}, "script.file"),
    ],
)
def test_every_uri_of_a_job_is_checked(part: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{field} is 'file:///d'"):
        require_kubernetes(fine_tune_job(**part))


@pytest.mark.parametrize("backend", [NFS, OWN_IMAGE])
def test_a_path_can_be_read_where_a_volume_is_mounted_or_the_image_is_the_users(backend: dict[str, Any]) -> None:
    require_kubernetes(inference_job(model={"uri": "file:///nfs/m"}, backend=backend))


def test_a_path_can_be_written_where_a_volume_is_mounted() -> None:
    require_kubernetes(fine_tune_job(output={"uri": "file:///nfs/r"}, backend=NFS))


def test_what_is_no_pod_is_left_to_the_overlay() -> None:
    for pod in ({"spec": []}, {"spec": {"containers": {}}}, {"spec": {"containers": [1]}}):
        require_kubernetes(fine_tune_job(backend={"kubernetes": {"pod": pod}}))
