"""Checkpoints and output on S3, over its real protocol: two hosts that share nothing else."""

from __future__ import annotations

import io
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import boto3
import pytest

from zerotune_trainer.zero_checkpoint import allow_state_types

pytestmark = pytest.mark.slow

HOSTS = ("127.0.0.1", "127.0.0.2")


def names() -> set[str]:
    return {item.key for item in boto3.resource("s3").Bucket("results").objects.filter(Prefix="job/")}


def content(key: str) -> bytes:
    body: bytes = boto3.client("s3").get_object(Bucket="results", Key=key)["Body"].read()
    return body


def checkpoints() -> set[str]:
    return {name.split("/")[2] for name in names() if "/checkpoint-" in name}


def staged(caches: Path) -> set[str]:
    """Checkpoints of which a host holds files below its cache."""
    return {path.parent.name for path in caches.rglob("staging/*/checkpoint-*/*")}


def test_a_job_resumes_from_the_store_alone(make_job: Any, store: dict[str, str], tmp_path: Path) -> None:
    """R22, R44, D5: killed, and started again on hosts whose disks are empty; the output is complete in the bucket."""
    job = make_job(stage=2, hosts="127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    job.config["output"]["uri"] = "s3://results/job"
    job.cache_of = {host: str(tmp_path / "first" / host) for host in HOSTS}
    job.environment = store
    running = job.start()
    running.until(lambda heartbeat: heartbeat.step >= 5)
    running.signal(signal.SIGKILL)
    running.end()
    assert "job/checkpoints/checkpoint-4/manifest.json" in names()
    assert "job/manifest.json" not in names()
    job.cache_of = {host: str(tmp_path / "second" / host) for host in HOSTS}
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-4" in ended.log
    files = {
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "results.json",
        "report.html",
        "trainer_state.json",
    }
    assert {f"job/{file}" for file in files} <= names()
    assert checkpoints() == {"checkpoint-4", "checkpoint-6"}
    assert staged(tmp_path / "second") == set()
    assert content("job/metrics.jsonl").count(b'"loss"') == 6
    shutil.rmtree(tmp_path / "second")
    again = job.run()
    assert "job is finished" in again.log
    reported = [
        heartbeat.completion
        for ended in (ended, again)
        for heartbeat in ended.heartbeats
        if heartbeat.completion is not None
    ]
    assert [completion.uri for completion in reported] == ["s3://results/job"] * 2
    # The second time nothing began.
    found = reported[0].progress.model_copy(update={"first_step": None})
    assert reported[1] == reported[0].model_copy(update={"progress": found})
    assert reported[0].progress.eval_loss is not None


def test_the_best_state_is_fetched_from_the_store(make_job: Any, store: dict[str, str], tmp_path: Path) -> None:
    """Hosts of one machine, which share a cache, keep no checkpoint that the store has."""
    import torch
    from safetensors.torch import load

    job = make_job(stage=2, hosts="127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    job.config["training"] |= {"learningRate": 0.6, "maxSteps": 6, "warmupSteps": 24}
    job.config["evaluation"] |= {"evalSteps": 1, "loadBestModelAtEnd": True}
    job.config["checkpoint"] |= {"saveSteps": 100, "saveTotalLimit": 1}
    job.config["output"]["uri"] = "s3://results/job"
    job.config["launch"]["cacheDir"] = str(tmp_path / "cache")
    job.environment = store
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    best = json.loads(content("job/results.json"))["bestStep"]
    assert best != 6, "the case does not test what it is for"
    assert checkpoints() == {f"checkpoint-{best}", "checkpoint-6"}
    assert staged(tmp_path) == {f"checkpoint-{best}"}
    of_checkpoint = f"job/checkpoints/checkpoint-{best}/global_step{best}/mp_rank_00_model_states.pt"
    allow_state_types()
    kept = torch.load(io.BytesIO(content(of_checkpoint)), weights_only=True)["module"]
    for name, weights in load(content("job/model.safetensors")).items():
        assert torch.equal(weights, kept[name]), name
