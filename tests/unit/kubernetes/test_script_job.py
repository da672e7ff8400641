"""Pods of method script reach the script, wherever it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.kubernetes.rendering import GOLDEN, INSTALLATION, fine_tune_job, pod_spec, trainer
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.backends.kubernetes.render import Manifests, render
from zerotune_operator.plan import Plan, identity_of, plan_job
from zerotune_trainer.sizing.model_config import shape_of_file

SHAPE = shape_of_file(GOLDEN / "plan" / "models" / "tiny-llama.json")


def rendered(file: str, **pod: Any) -> tuple[Plan, Manifests]:
    job = fine_tune_job(
        method="script",
        script={"file": file, "arguments": ["--fast"]},
        model={"uri": "hf://org/model"},
        data={"train": {"uris": ["s3://ddd/d.jsonl"]}},
        backend={"kubernetes": {"pod": {"spec": pod}}} if pod else {},
    )
    plan = plan_job(job, SHAPE, place(job, 0, "hf://org/model"), identity_of(job))
    return plan, render(plan, job, INSTALLATION)


def test_the_claim_of_a_script_is_mounted_for_reading() -> None:
    plan, made = rendered("pvc://code/train.py")
    config: Any = plan.config
    assert config.script.file == "file:///mnt/pvc/code/train.py" and config.script.arguments == ["--fast"]
    mounts = {mount["mountPath"]: mount for mount in trainer(made.job)["volumeMounts"]}
    assert mounts["/mnt/pvc/code"]["readOnly"] is True


@pytest.mark.parametrize("file", ["file:///scripts/train.py", "s3://code/train.py"])
def test_a_config_map_with_a_script_is_mounted_by_the_overlay(file: str) -> None:
    plan, made = rendered(
        file,
        containers=[{"name": "trainer", "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}]}],
        volumes=[{"name": "scripts", "configMap": {"name": "train"}}],
    )
    config: Any = plan.config
    assert config.script.file == file
    assert {"name": "scripts", "configMap": {"name": "train"}} in pod_spec(made.job)["volumes"]
