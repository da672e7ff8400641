"""Engine vllm: vLLM itself, built for CPU, in an environment of its own, through the job's own launcher."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.trainer.inference.adapters import write_adapter
from zerotune_devtools.checkout import ROOT
from zerotune_devtools.harness.vllm_python import vllm_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def python() -> Path:
    return vllm_python()


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A Llama whose heads are as large as vLLM's kernels take them at least."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of what the test starts; its path is short, as those of sockets must be."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.fixture
def start(python: Path, job: Any, wide_model: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a job of one rank with engine vllm: `start(data={...})`."""

    def start(**parts: Any) -> subprocess.Popen[str]:
        folder = job(**{"model": {"uri": wide_model.as_uri()}, **parts}, ranks=1, engine="vllm")
        paths = os.pathsep.join(str(ROOT / part / "src") for part in ("trainer", "devtools"))
        command = [python, "-c", "from zerotune_trainer.launch import main; main()", folder, "--host", "127.0.0.1"]
        command += ["--termination-log", folder / "log"]
        variables = os.environ | {"PYTHONPATH": paths}
        return subprocess.Popen(command, env=variables, text=True, stderr=subprocess.PIPE)

    return start


def finish(process: subprocess.Popen[str]) -> None:
    _, log = process.communicate(timeout=400)
    assert process.returncode == 0, log[-5000:]


@pytest.fixture
def vllm_rows(start: Any, output_rows: Any, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """The rows of a job with engine vllm; its output is out of the next one's way."""

    def run(**parts: Any) -> list[dict[str, Any]]:
        finish(start(**parts))
        rows: list[dict[str, Any]] = output_rows()
        shutil.rmtree(tmp_path / "output")
        return rows

    return run


def test_greedy_texts_of_an_adapter_are_those_of_transformers(
    vllm_rows: Any,
    rows_of: Any,
    write_jsonl: Any,
    weaknesses: list[dict[str, Any]],
    wide_model: Path,
    temporary: Path,
    tmp_path: Path,
) -> None:
    """With stop strings, further end tokens and penalties; two of the records cannot be done."""
    records = [*weaknesses[:9], {"id": 0, "name": ""}, {"id": 1, "name": "long " * 200}]
    parts = {
        "data": {"uris": [write_jsonl(records).as_uri()], "columns": {"prompt": "name"}},
        "generation": {
            "maxNewTokens": 24,
            "minNewTokens": 2,
            "repetitionPenalty": 1.2,
            "stopStrings": ["er", "ty"],
            "eosTokenIds": [30, 31],
        },
        "outputFormat": {"rowsPerFile": 4},
        "model": {"uri": write_adapter(wide_model, tmp_path / "adapter").as_uri()},
    }
    rows = vllm_rows(**parts)
    assert rows == rows_of("transformers", ranks=1, **parts)
    assert [row["id"] for row in rows if "error" in row] == [0, 1]
    assert not list(temporary.iterdir()), "what vLLM leaves behind goes with it"
    assert len({len(row["generation"]) for row in rows[:9]}) > 2, "they end at different tokens"


def test_scores_are_those_of_transformers(
    vllm_rows: Any, rows_of: Any, write_jsonl: Any, weaknesses: list[dict[str, Any]], wide_model: Path
) -> None:
    parts = {
        "data": {"uris": [write_jsonl(weaknesses[:9]).as_uri()], "columns": {"prompt": "name"}},
        "task": "score",
        "labels": [" injection", " overflow of a buffer", " x"],
        "model": {"uri": wide_model.as_uri()},
    }
    for row, expected in zip(vllm_rows(**parts), rows_of("transformers", ranks=1, **parts), strict=True):
        assert row["generation"]["label"] == expected["generation"]["label"]
        assert row["generation"]["logLikelihoods"] == pytest.approx(expected["generation"]["logLikelihoods"], rel=1e-4)


def test_a_job_that_is_stopped_goes_on_with_the_texts_of_an_undisturbed_one(
    start: Any, vllm_rows: Any, write_jsonl: Any, weaknesses: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Sampled, two texts a record; the stop falls among other batches than the undisturbed run has."""
    records = [each | {"copy": copy} for copy in range(4) for each in weaknesses[:20]]
    parts = {
        "data": {"uris": [write_jsonl(records).as_uri()], "columns": {"prompt": "name"}},
        "generation": {"maxNewTokens": 100, "doSample": True, "temperature": 0.8, "numReturnSequences": 2},
        "outputFormat": {"rowsPerFile": 10},
    }
    process = start(**parts)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "output").glob("part-*")):
        assert process.poll() is None, process.communicate()[1][-5000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=100)
    assert process.returncode == 143, log[-5000:]
    kept = {path.name: path.read_bytes() for path in (tmp_path / "output").glob("part-*")}
    assert 0 < len(kept) < 8
    finish(start(**parts))
    whole = {path.name: path.read_bytes() for path in (tmp_path / "output").glob("part-*")}
    assert kept.items() <= whole.items()
    shutil.rmtree(tmp_path / "output")
    undisturbed = vllm_rows(**parts, perDeviceBatchSize=3)
    rows = [json.loads(line) for name in sorted(whole) for line in whole[name].splitlines()]
    assert rows == undisturbed
    assert all(len(set(row["generation"])) == 2 for row in rows)


def test_a_model_that_ends_vllm_is_said_to_do_so(
    start: Any, write_jsonl: Any, weaknesses: list[dict[str, Any]], model_folder: Path, tmp_path: Path
) -> None:
    """Its heads are smaller than vLLM's kernels take them."""
    data = {"uris": [write_jsonl(weaknesses[:2]).as_uri()], "columns": {"prompt": "name"}}
    process = start(data=data, model={"uri": model_folder.as_uri()})
    _, log = process.communicate(timeout=400)
    assert process.returncode == 75, log[-5000:]
    assert "vLLM ended while it generated" in (tmp_path / "job" / "log").read_text()
