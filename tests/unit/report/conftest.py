"""An output folder as training leaves it, without its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.config.jobs import TrainConfig

JsonLine = dict[str, Any]
WriteRun = Callable[..., TrainConfig]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write metrics, results and topology into `tmp_path`; returns the job's configuration."""

    def write(lines: list[JsonLine], changes: JsonLine | None = None, results: JsonLine | None = None) -> TrainConfig:
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        figures = {"steps": len(lines), "tokens": 5000, "seconds": 200.0, "trainLoss": 3.5}
        (tmp_path / "results.json").write_text(json.dumps(figures | (results or {})))
        (tmp_path / "topology.json").write_text(json.dumps([_rank(rank) for rank in range(4)]))
        return TrainConfig.model_validate(_config(tmp_path) | (changes or {}))

    return write


def _rank(rank: int) -> JsonLine:
    host = f"worker-{rank // 2}"
    return {"rank": rank, "localRank": rank % 2, "host": host, "hostname": host, "device": "cpu", "pid": 100 + rank}


def _config(folder: Path) -> JsonLine:
    return {
        "job": {"kind": "FineTuneJob", "name": "secure-llama", "uid": "u-1"},
        "launch": {"cacheDir": f"{folder}/cache"},
        "model": {"uri": "hf://example/base"},
        "output": {"uri": f"file://{folder}"},
        "method": "cpt",
        "data": {"train": {"uris": [f"file://{folder}/data/train.jsonl"]}, "columns": {"text": "body"}},
        "training": {"learningRate": "2e-3", "maxGradNorm": 1.0},
        "checkpoint": {},
        "evaluation": {},
    }
