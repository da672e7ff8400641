"""Pods of both kinds reach a plug-in, wherever it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.kubernetes.rendering import attempt_of, fine_tune_job, inference_job, pod_spec, trainer
from zerotune_operator.api.jobs import Job


def job(kind: str, **plugin: Any) -> Job:
    make = fine_tune_job if kind == "FineTuneJob" else inference_job
    return make(model={"uri": "s3://mmm/m"}, plugin={"processing": "clean", **plugin})


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_the_key_of_a_config_map_is_a_file_of_the_pod(kind: str) -> None:
    made = attempt_of(job(kind, configMap={"name": "mine", "key": "code.py"}), "s3://mmm/m")
    volumes = {volume["name"]: volume for volume in pod_spec(made.job)["volumes"]}
    assert volumes["plugin"]["configMap"] == {"name": "mine", "items": [{"key": "code.py", "path": "code.py"}]}
    (mount,) = [each for each in trainer(made.job)["volumeMounts"] if each["name"] == "plugin"]
    assert mount == {"name": "plugin", "mountPath": "/zerotune/config-maps/mine", "readOnly": True}
    config = next(each for each in made.shared if each["kind"] == "ConfigMap")["data"]["config.json"]
    assert '"file":"file:///zerotune/config-maps/mine/code.py"' in config.replace(": ", ":")


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_the_claim_of_a_plug_in_is_mounted_for_reading(kind: str) -> None:
    made = attempt_of(job(kind, file="pvc://code/plugin.py"), "s3://mmm/m")
    mounts = {mount["mountPath"]: mount for mount in trainer(made.job)["volumeMounts"]}
    assert mounts["/mnt/pvc/code"]["readOnly"] is True
