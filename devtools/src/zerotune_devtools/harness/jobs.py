"""The jobs of the tests: as small as a job of several nodes can be."""

from __future__ import annotations

from typing import Any

from zerotune_devtools.harness.kubectl import Object
from zerotune_devtools.harness.volume import CLAIM

FOLDER = f"pvc://{CLAIM}"
STEPS, SAVE_STEPS = 80, 20


def fine_tune_job(name: str, method: str = "cpt", **sections: Any) -> Object:
    """Two nodes of two ranks, ZeRO-3; `sections` of the spec replace those of this one."""
    # The answers of the catalogue are longer than 64 tokens; as plain text it is cut into blocks of them.
    columns: dict[str, Object] = {
        "cpt": {"columns": {"text": "text"}},
        "sft": {"columns": {"messages": "messages"}, "packing": "none", "overflow": "truncate"},
        "script": {},
    }
    spec: Object = {
        "method": method,
        "model": {"uri": f"{FOLDER}/model"},
        "data": {
            "train": {"uris": [f"{FOLDER}/data/{method}-train.jsonl"]},
            "maxLength": 64,
            **columns[method],
        },
        "training": {"globalBatchSize": 4, "maxSteps": STEPS, "learningRate": 1e-3, "seed": 7},
        "zero": {"stage": 3},
        "topology": two_by_two(),
        "checkpoint": {"saveSteps": SAVE_STEPS},
        "evaluation": {"evalStrategy": "no"},
        "output": {"uri": f"{FOLDER}/output/{name}"},
    }
    return _resource("FineTuneJob", name, spec | sections)


def inference_job(name: str, **sections: Any) -> Object:
    """Two nodes of two ranks answer the questions that were held out."""
    spec = {
        "model": {"uri": f"{FOLDER}/model"},
        "engine": "transformers",
        "data": {
            "uris": [f"{FOLDER}/data/questions.jsonl"],
            "columns": {"prompt": "question"},
            "applyChatTemplate": True,
        },
        # A model as small as this may say special tokens only.
        "generation": {"maxNewTokens": 8, "skipSpecialTokens": False},
        "perDeviceBatchSize": 4,
        "topology": two_by_two(),
        "outputFormat": {"generationColumn": "answer"},
        "output": {"uri": f"{FOLDER}/output/{name}"},
    }
    return _resource("InferenceJob", name, spec | sections)


def two_by_two() -> Object:
    """Two nodes, two ranks each."""
    return {"nodes": 2, "processesPerNode": 2, "cpu": "250m", "memory": "3Gi"}


def one_rank() -> Object:
    """The smallest topology there is."""
    return {"nodes": 1, "processesPerNode": 1, "cpu": "250m", "memory": "3Gi"}


def _resource(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": "zerotune.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
