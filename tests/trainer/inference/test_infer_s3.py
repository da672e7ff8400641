"""Two hosts that share nothing but a bucket: all their output is in it when the job ends, also after a crash."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from zerotune_devtools.harness.s3 import bucket_of, s3_server
from zerotune_trainer.config import RENDEZVOUS_FILE
from zerotune_trainer.inference.plan import WORK_NAME
from zerotune_trainer.launching.worker import run_rank

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket of an S3 server of this machine, which is a process of its own."""
    with s3_server(tmp_path / "moto.log") as endpoint:
        for name, value in bucket_of(endpoint, "answers").items():
            monkeypatch.setenv(name, value)
        yield boto3.resource("s3").Bucket("answers")


def names(bucket: Any) -> set[str]:
    return {item.key for item in bucket.objects.filter(Prefix="out/")}


def start_hosts(tmp_path: Path, job: Any, watch_ranks: Any, options: dict[str, Any], attempt: int) -> Any:
    """A rank on each of two hosts, with folders and caches of their own.

    They are forked from this process, as the warm one of the other tests does not know of the S3 server.
    """
    folder = job(**options)
    config = json.loads((folder / "config.json").read_text())
    context = multiprocessing.get_context("fork")
    started = []
    for host in ("127.0.0.1", "127.0.0.2"):
        own = tmp_path / f"{host}-attempt-{attempt}"
        own.mkdir()
        config["launch"]["cacheDir"] = str(own / "cache")
        (own / "config.json").write_text(json.dumps(config))
        (own / "hostfile").write_text("127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
        (own / RENDEZVOUS_FILE).write_text("a secret of this job")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=run_rank, args=(own, host, 0, theirs))
        process.start()
        theirs.close()
        started.append((process, ours))
    return watch_ranks(started)


def test_r54_all_output_is_in_the_store_when_the_job_ends(
    tmp_path: Path, weaknesses: list[dict[str, Any]], bucket: Any, job: Any, watch_ranks: Any
) -> None:
    lines = "".join(json.dumps(entry | {"copy": copy}) + "\n" for copy in range(6) for entry in weaknesses)
    bucket.put_object(Key="in/questions.jsonl", Body=lines.encode())
    options = {
        "data": {"uris": ["s3://answers/in"], "columns": {"prompt": "name"}},
        "output": {"uri": "s3://answers/out"},
        "generation": {"maxNewTokens": 24},
        "outputFormat": {"rowsPerFile": 4},
    }
    first = start_hosts(tmp_path, job, watch_ranks, options, 1)
    first.wait_until(lambda: len([name for name in names(bucket) if name.startswith(f"out/{WORK_NAME}/part-")]) >= 4)
    first.kill()
    kept = {name for name in names(bucket) if name.startswith("out/part-")}
    assert "out/manifest.json" not in names(bucket)
    assert kept

    second = start_hosts(tmp_path, job, watch_ranks, options, 2)
    outcome = second.end()
    assert outcome.exit_codes == [0, 0], outcome.failure
    parts = sorted(name for name in names(bucket) if name.startswith("out/part-"))
    assert len(parts) == 33
    rows = [json.loads(line) for name in parts for line in bucket.Object(name).get()["Body"].read().splitlines()]
    assert [(row["copy"], row["id"]) for row in rows] == [(c, e["id"]) for c in range(6) for e in weaknesses]
    assert all(row["generation"] for row in rows)
    manifest = json.loads(bucket.Object("out/manifest.json").get()["Body"].read())
    assert {f"out/{file['path']}" for file in manifest["files"]} == {
        *parts,
        "out/metrics.jsonl",
        "out/report.html",
        "out/results.json",
    }
    assert not [name for name in names(bucket) if name.startswith(f"out/{WORK_NAME}/")]
    metrics = bucket.Object("out/metrics.jsonl").get()["Body"].read().decode()
    assert sum(json.loads(line)["records"] for line in metrics.splitlines()) == len(rows)


def test_a_killed_replica_is_not_missing_in_the_store(
    tmp_path: Path, bucket: Any, stub_job: Any, stub_engine: Any
) -> None:
    """Two replicas that share nothing but the bucket."""
    stub_engine.seconds_per_batch = 0.1
    lines = "".join(json.dumps({"id": number, "prompt": f"weakness {number}"}) + "\n" for number in range(40))
    bucket.put_object(Key="in/questions.jsonl", Body=lines.encode())
    parts = {"data": {"uris": ["s3://answers/in"]}, "output": {"uri": "s3://answers/out"}}
    made = stub_job(replicas=2, outputFormat={"rowsPerFile": 1}, **parts)
    lost, other = (_on_host_of_its_own(made, tmp_path / f"host-{number}").start(replica=number) for number in (0, 1))
    while len([name for name in names(bucket) if name.startswith("out/part-")]) < 8:
        time.sleep(0.05)
    lost.kill()
    other.join(120)
    assert other.exitcode == 0
    written = sorted(name for name in names(bucket) if name.startswith("out/part-"))
    rows = [json.loads(line) for name in written for line in bucket.Object(name).get()["Body"].read().splitlines()]
    assert [row["id"] for row in rows] == list(range(40))
    rest = {name.removeprefix("out/") for name in names(bucket) - set(written)}
    assert {name for name in rest if not name.startswith(".")} == {
        "manifest.json",
        "metrics.jsonl",
        "report.html",
        "results.json",
    }


def _on_host_of_its_own(job: Any, folder: Path) -> Any:
    """The job as a host sees it that shares no file with others."""
    folder.mkdir()
    config = json.loads((job.folder / "config.json").read_text())
    config["launch"]["cacheDir"] = str(folder / "cache")
    (folder / "config.json").write_text(json.dumps(config))
    return dataclasses.replace(job, folder=folder)
