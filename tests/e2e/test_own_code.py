"""Code of a user's own from a ConfigMap: a plug-in, and a script that trains by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerotune_devtools.checkout import ROOT
from zerotune_devtools.harness.jobs import FOLDER, fine_tune_job, one_rank
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
EXAMPLES = ROOT / "examples" / "quickstart"


def config_map(name: str, file: Path) -> Object:
    """What `kubectl create configmap NAME --from-file=FILE` makes."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {file.name: file.read_text()},
    }


def test_the_ranks_of_a_job_use_the_plug_in_of_a_config_map(namespace: Namespace, volume: Volume) -> None:
    records = {"uris": [f"{FOLDER}/data/sft-train.jsonl"]}
    job = fine_tune_job(
        "own-loss",
        method="sft",
        plugin={
            "configMap": {"name": "focal", "key": "plugin.py"},
            "processing": "clean",
            "computeLossFunc": "focal_loss",
        },
        data={"train": records, "validation": records, "maxLength": 256},
        training={"globalBatchSize": 2, "maxSteps": 2, "learningRate": 1e-3},
        evaluation={"generation": {"maxSamples": 2, "maxNewTokens": 4, "metrics": ["names_the_cwe"]}},
        topology=one_rank(),
    )
    namespace.apply(config_map("focal", EXAMPLES / "plugin.py"), job)
    done = namespace.phase("ftj/own-loss", "Succeeded")
    assert done["progress"]["step"] == 2
    assert "generation/names_the_cwe" in volume.json("output/own-loss/results.json")["metrics"]


def test_a_script_of_a_config_map_trains_with_the_ranks_of_the_job(namespace: Namespace, volume: Volume) -> None:
    pod = {
        "spec": {
            "containers": [{"name": "trainer", "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}]}],
            "volumes": [{"name": "scripts", "configMap": {"name": "scripts"}}],
        }
    }
    job = fine_tune_job(
        "own-script",
        method="script",
        script={"file": "file:///scripts/own_script.py", "arguments": ["2"]},
        data={"train": {"uris": [f"{FOLDER}/data/cpt-train.jsonl"]}, "maxLength": 64},
        training={"perDeviceTrainBatchSize": 2, "learningRate": 1e-3},
        zero={"stage": 2},
        topology=one_rank() | {"nodes": 2},
        backend={"kubernetes": {"pod": pod}},
    )
    namespace.apply(config_map("scripts", EXAMPLES / "own_script.py"), job)
    done = namespace.phase("ftj/own-script", "Succeeded")
    assert done["progress"]["step"] == 2
    assert any(
        each["path"].endswith(".safetensors") for each in volume.json("output/own-script/manifest.json")["files"]
    )
