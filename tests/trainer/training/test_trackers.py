"""R45: trackers get every figure, by their own libraries and without a network, what they write is in the result."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trainer.training.training_job import Job

pytestmark = pytest.mark.slow

_WANDB_HEADER, _BLOCK = 7, 32768
_WHOLE, _LAST = 1, 4
"""Kinds of parts of a record."""


@pytest.fixture
def tracked(make_job: Callable[..., Job]) -> Job:
    job = make_job("tracked", hosts="127.0.0.1 slots=1\n")
    job.config["training"] |= {"maxSteps": 4, "arguments": {"report_to": ["tensorboard", "mlflow", "wandb"]}}
    job.environment = {"WANDB_API_KEY": "", "HOME": str(job.folder), "WANDB_SILENT": "true"}
    ended = job.run()
    assert ended.exit_codes == [0], ended.failures
    return job


def test_trackers_get_every_figure(tracked: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    losses = dict(enumerate(tracked.losses(), start=1))
    folder = tracked.output / "trackers"

    assert tensorboard_losses(folder / "tensorboard") == pytest.approx(losses)
    assert mlflow_losses(folder / "mlflow") == pytest.approx(losses)
    assert wandb_losses(folder / "wandb") == pytest.approx(losses)
    manifest = json.loads((tracked.output / "manifest.json").read_text())
    listed = {entry["path"].split("/")[1] for entry in manifest["files"] if entry["path"].startswith("trackers/")}
    assert listed == {"tensorboard", "mlflow", "wandb"}


def tensorboard_losses(folder: Path) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars("train/loss")}


def mlflow_losses(folder: Path) -> dict[int, float]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(folder.as_uri())
    (run,) = client.search_runs(["0"])
    assert (run.info.run_name, run.info.status) == ("tracked", "FINISHED")
    return {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss")}


def wandb_losses(folder: Path) -> dict[int, float]:
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.rglob("run-*.wandb")
    losses = {}
    for content in leveldb_records(path.read_bytes()[_WANDB_HEADER:]):
        history = Record.FromString(content).history
        items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in history.item}
        if "train/loss" in items:
            losses[items["train/global_step"]] = items["train/loss"]
    return losses


def leveldb_records(log: bytes) -> Iterator[bytes]:
    """The records of a log of LevelDB: blocks of 32 KiB, in which each part has a checksum, its length and its kind."""
    place, record = 0, b""
    while place + 7 <= len(log):
        if (left := _BLOCK - (place + _WANDB_HEADER) % _BLOCK) < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", log, place)
        record += log[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""
