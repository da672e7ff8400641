"""The volume on a node's disk for parameters that are offloaded to it."""

from __future__ import annotations

import json

from tests.unit.kubernetes.rendering import attempt_of, inference_job, pod_spec, trainer


def test_parameters_on_disk_get_a_volume_of_their_size_and_a_node_that_has_it() -> None:
    job = inference_job(engine="zero", zero={"offloadParam": "nvme"}, topology={"nodes": 2, "gpusPerNode": 2})
    attempt = attempt_of(job, "s3://mmm/m", shape="llama-3.1-8b")
    folder = json.loads(attempt.shared[2]["data"]["config.json"])["launch"]["offloadDir"]
    (mount,) = (each for each in trainer(attempt.job)["volumeMounts"] if each["mountPath"] == folder)
    (volume,) = (each for each in pod_spec(attempt.job)["volumes"] if each["name"] == mount["name"])
    half_of_it_in_bf16 = 8_030_261_248
    asked = trainer(attempt.job)["resources"]["requests"]["ephemeral-storage"]
    assert volume["emptyDir"]["sizeLimit"] == asked
    assert 1.04 < int(asked) / half_of_it_in_bf16 < 1.06
    assert "ephemeral-storage" not in trainer(attempt.job)["resources"]["limits"]
