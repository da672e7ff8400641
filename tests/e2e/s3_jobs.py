"""A store with model and data, and jobs that read and write there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from small_model import save_model

from tests.e2e.object_store import BUCKET, ObjectStore, object_store
from zerotune_devtools.bed.settings import HOST_ADDRESS
from zerotune_devtools.harness.jobs import fine_tune_job
from zerotune_devtools.harness.kubectl import Object
from zerotune_devtools.harness.volume import data

STEPS = 4


@contextmanager
def filled_store(folder: Path) -> Iterator[ObjectStore]:
    """A store that the pods of the test bed reach, with `model/` and `data/train.jsonl`."""
    texts = data()["cpt-train.jsonl"]
    save_model(folder / "model", [json.loads(line)["text"] for line in texts.splitlines()])
    with object_store(HOST_ADDRESS, folder / "log") as made:
        made.put_folder("model", folder / "model")
        made.put("data/train.jsonl", texts.encode())
        yield made


def s3_job(name: str, secret: str | None = None, steps: int = STEPS, **sections: Any) -> Object:
    """A job of one rank, with the keys of a Secret or, where it takes none, the rights of its machine."""
    keys: Object = {"credentials": {"secretName": secret}} if secret else {}
    return fine_tune_job(
        name,
        model={"uri": f"s3://{BUCKET}/model", **keys},
        data={
            "train": {"uris": [f"s3://{BUCKET}/data/train.jsonl"]},
            "columns": {"text": "text"},
            "maxLength": 64,
            **keys,
        },
        training={"globalBatchSize": 1, "maxSteps": steps},
        checkpoint={"saveSteps": steps},
        output={"uri": f"s3://{BUCKET}/output/{name}", **keys},
        **sections,
    )


def secret(name: str, values: dict[str, str]) -> Object:
    """A Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def files(store: ObjectStore, name: str) -> dict[str, bytes]:
    """The files that the manifest of a job's output lists."""
    manifest = json.loads(store.get(f"output/{name}/manifest.json"))
    return {each["path"]: store.get(f"output/{name}/{each['path']}") for each in manifest["files"]}
