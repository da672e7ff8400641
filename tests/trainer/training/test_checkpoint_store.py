"""The folders of checkpoints in a store that does not always know what it has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.trainer.training.training_job import free_port, wait_for_port
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, describe, files_of
from zerotune_trainer.ownership import Ownership
from zerotune_trainer.storage import Folder, open_folder, s3_client

pytestmark = pytest.mark.slow


@pytest.fixture
def forgotten(store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that says what the store does not know; see forgetful_store.py."""
    folder, port = tmp_path / "forgotten", free_port()
    folder.mkdir()
    script = Path(__file__).with_name("forgetful_store.py")
    server = subprocess.Popen([sys.executable, script, str(port), store["AWS_ENDPOINT_URL"].rpartition(":")[2], folder])
    wait_for_port(port)
    s3_client.forget_client()
    monkeypatch.setenv("MOTO_URL", store["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    yield folder
    s3_client.forget_client()
    server.kill()
    server.wait()


@pytest.fixture
def config() -> TrainConfig:
    parts: dict[str, Any] = {
        "job": {"kind": "FineTuneJob", "name": "job", "uid": "uid"},
        "launch": {"cacheDir": "/nowhere"},
        "model": {},
        "output": {},
        "data": {"train": {"uris": ["file:///data"]}},
        **{part: {} for part in ("training", "checkpoint", "evaluation")},
    }
    return TrainConfig.model_validate({"method": "sft", **parts})


def put_checkpoint(folder: Folder, config: TrainConfig, step: int, *, complete: bool = True) -> None:
    path = folder.local / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    if complete:
        files = describe(path, files_of(path))
        manifest = Manifest(job=config.job, config_digest=config.digest(), step=step, files=files)
        (path / MANIFEST_NAME).write_bytes(manifest.encoded())
    for file in path.iterdir():
        bucket().upload_file(str(file), f"checkpoints/{path.name}/{file.name}")


def bucket() -> Any:
    return boto3.resource("s3", endpoint_url=os.environ["MOTO_URL"]).Bucket("results")


def keys() -> set[str]:
    return {item.key for item in bucket().objects.all() if not item.key.endswith("/")}


def test_a_manifest_that_a_store_does_not_know_costs_no_checkpoint(
    forgotten: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """Once, it is asked for again; always, the checkpoint is not used, and stays."""
    from zerotune_trainer.training.checkpoints.store import CheckpointStore, State

    folder = open_folder("s3://results/checkpoints", tmp_path)
    for step in (2, 4):
        put_checkpoint(folder, config, step)
    before = keys()
    store = CheckpointStore(Ownership(folder, config.job), config, "rows")
    (forgotten / "checkpoint-4+manifest.json").write_text("1")
    assert store.states() == {2: State.COMPLETE, 4: State.COMPLETE}
    assert (forgotten / "checkpoint-4+manifest.json").read_text() == "0", "the case does not test what it is for"

    (forgotten / "checkpoint-4+manifest.json").write_text("1000")
    states = store.states()
    assert states == {2: State.COMPLETE, 4: State.INCOMPLETE}
    store.note_leftovers(states)
    assert keys() == before
    (forgotten / "checkpoint-4+manifest.json").unlink()
    put_checkpoint(folder, config, 6)
    store.retain(6, limit=2, best=None)
    assert {key for key in keys() if key.endswith("manifest.json")} == {
        "checkpoints/checkpoint-4/manifest.json",
        "checkpoints/checkpoint-6/manifest.json",
    }


def test_only_what_an_earlier_attempt_has_left_is_removed(forgotten: Path, config: TrainConfig, tmp_path: Path) -> None:
    from zerotune_trainer.training.checkpoints.store import CheckpointStore

    folder = open_folder("s3://results/checkpoints", tmp_path)
    put_checkpoint(folder, config, 2)
    put_checkpoint(folder, config, 4, complete=False)
    store = CheckpointStore(Ownership(folder, config.job), config, "rows")
    store.note_leftovers(store.states())
    put_checkpoint(folder, config, 5, complete=False)
    put_checkpoint(folder, config, 6)
    assert "checkpoints/checkpoint-4/trainer_state.json" in keys()
    store.retain(6, limit=2, best=None)

    assert {key.split("/")[1] for key in keys()} == {"checkpoint-2", "checkpoint-5", "checkpoint-6"}
