"""The table of instance types: known to SageMaker, and read by the plan."""

from __future__ import annotations

import pytest

from zerotune_devtools.sagemaker.service_model import service_model
from zerotune_operator.backends.sagemaker.instances import describe, gpu_types, instance_type

GIB = 1 << 30
ENUM = service_model().shape_for("TrainingInstanceType").enum


def test_every_type_with_gpus_is_one_that_sagemaker_has() -> None:
    assert set(gpu_types()) <= set(ENUM)
    assert len(gpu_types()) > 30


def test_types_that_are_not_known_are_named_so() -> None:
    unknown = {name for name in ENUM if instance_type(name) is None}
    assert {name.split(".")[1] for name in unknown if name.split(".")[1][0] in "gp"} == {
        *("p2", "p3", "p3dn", "p6e-gb200", "p6-b300", "g7", "g7e")
    }
    assert instance_type("ml.trn1.32xlarge") is None
    said = "no figures of this type: topology.memory and, with GPUs, topology.accelerator.memory say what it has"
    assert describe("ml.trn1.32xlarge") == f"zerotune has {said}"


@pytest.mark.parametrize(
    ("name", "gpus", "gpu_gib", "host_gib", "vcpus", "efa"),
    [
        ("ml.p5.48xlarge", 8, 80, 2048, 192, True),
        ("ml.p4d.24xlarge", 8, 40, 1152, 96, True),
        ("ml.g5.xlarge", 1, 22, 16, 4, False),
        ("ml.g6e.12xlarge", 4, 45, 384, 48, True),
        ("ml.m5.4xlarge", 0, None, 64, 16, False),
        ("ml.c5.9xlarge", 0, None, 72, 36, False),
        ("ml.r5.large", 0, None, 16, 2, False),
    ],
)
def test_what_a_type_has(name: str, gpus: int, gpu_gib: int | None, host_gib: int, vcpus: int, efa: bool) -> None:
    """R09, as far as it is not the image's: which types have A10G, A100 or H100 GPUs, and EFA."""
    found = instance_type(name)
    assert found is not None
    assert (found.gpus, found.vcpus, found.efa) == (gpus, vcpus, efa)
    assert (found.gpu_bytes and round(found.gpu_bytes / GIB)) == gpu_gib
    assert 0.9 * host_gib < found.node_bytes / GIB < host_gib
