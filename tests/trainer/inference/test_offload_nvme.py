"""Engine zero with its parameters on disk: a job gives what plain transformers does, and leaves nothing there."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.trainer.inference.adapters import write_adapter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("async_io")]
ENGINES = (("transformers", "none"), ("zero", "nvme"))
"""Each with where it keeps the parameters."""


@pytest.fixture(scope="session")
def large_parameters(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model some of whose parameters are a mebibyte for each of two ranks: smaller ones stay in memory."""
    folder = tmp_path_factory.mktemp("large-parameters")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("ranks", "task"), [*itertools.product([1, 2], ["generate", "score"]), (2, "embed")])
def test_parameters_on_disk_give_what_a_whole_copy_does(
    ranks: int,
    task: str,
    large_parameters: Path,
    rows_of: Callable[..., list[dict[str, Any]]],
    write_jsonl: Callable[..., Path],
    weaknesses: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    columns = {"prompt": "name"} | ({"completion": "description"} if task == "score" else {})
    data = {"uris": [write_jsonl(weaknesses[:5]).as_uri()], "columns": columns}
    parts = {
        "ranks": ranks,
        "data": data,
        "task": task,
        "generation": {"maxNewTokens": 12} if task == "generate" else {},
        "model": {"uri": large_parameters.as_uri()},
        "perDeviceBatchSize": 2,
    }
    rows = {engine: rows_of(engine, engine=engine, offloadParam=offload, **parts) for engine, offload in ENGINES}
    assert without_numbers(rows["zero"]) == without_numbers(rows["transformers"])
    assert numbers(rows["zero"]) == pytest.approx(numbers(rows["transformers"]), rel=1e-5, abs=1e-6)
    assert list((tmp_path / "disk").iterdir()) == []


def numbers(rows: list[dict[str, Any]]) -> list[float]:
    """Log-likelihoods and vectors: of other kernels for other shapes of batches, they differ in their last digits."""
    cells = [row["generation"] for row in rows]
    likelihoods = [cell["logLikelihood"] for cell in cells if isinstance(cell, dict)]
    return likelihoods + [number for cell in cells if isinstance(cell, list) for number in cell]


def without_numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    counts = {dict: lambda cell: cell["tokens"], list: len, str: str}
    return [row | {"generation": counts[type(row["generation"])](row["generation"])} for row in rows]


def test_an_adapter_is_merged_into_parameters_on_disk(
    large_parameters: Path,
    rows_of: Callable[..., list[dict[str, Any]]],
    write_jsonl: Callable[..., Path],
    weaknesses: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    data = {"uris": [write_jsonl(weaknesses[:3]).as_uri()], "columns": {"prompt": "name"}}
    adapter = write_adapter(large_parameters, tmp_path / "adapter").as_uri()
    on_disk = {"engine": "zero", "offloadParam": "nvme"}
    runs: dict[str, dict[str, Any]] = {
        "copy": {"model": {"uri": adapter}},
        "disk": {"model": {"uri": adapter}, **on_disk},
        "base": {"model": {"uri": large_parameters.as_uri()}, **on_disk},
    }
    shared = {"data": data, "generation": {"maxNewTokens": 12}}
    rows = {name: rows_of(name, **shared, **parts) for name, parts in runs.items()}
    assert rows["disk"] == rows["copy"] != rows["base"]


def test_what_a_killed_rank_has_left_on_disk_is_gone_after_the_next_attempt(
    large_parameters: Path,
    job: Callable[..., Path],
    start_ranks: Callable[[Path], Any],
    write_jsonl: Callable[..., Path],
    weaknesses: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    data = {"uris": [write_jsonl(weaknesses[:2]).as_uri()], "columns": {"prompt": "name"}}
    parts = {"data": data, "engine": "zero", "offloadParam": "nvme", "model": {"uri": large_parameters.as_uri()}}
    folder, disk = job(ranks=1, **parts), tmp_path / "disk"
    killed = start_ranks(folder)
    killed.wait_until(lambda: any(disk.rglob("*.swp")))
    killed.kill()
    assert list(disk.rglob("*.swp"))
    assert start_ranks(folder).end().exit_codes == [0]
    assert list(disk.iterdir()) == []


def test_parameters_that_memory_has_room_for_stay_off_the_disk(
    large_parameters: Path,
    job: Callable[..., Path],
    rows_of: Callable[..., list[dict[str, Any]]],
    start_ranks: Callable[[Path], Any],
    write_jsonl: Callable[..., Path],
    weaknesses: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    data = {"uris": [write_jsonl(weaknesses[:24]).as_uri()], "columns": {"prompt": "name"}}
    parts = {"data": data, "model": {"uri": large_parameters.as_uri()}, "perDeviceBatchSize": 1}
    parts["outputFormat"] = {"rowsPerFile": 1}  # The first is there long before the job ends, and clears the disk.
    expected = rows_of("copy", **parts)
    on_disk = {}
    for max_in_cpu in (0, 2_000_000):
        folder = job(ranks=1, name=f"{max_in_cpu}-in-memory", **parts, engine="zero", offloadParam="nvme")
        config = json.loads((folder / "config.json").read_text())
        config["launch"]["maxInCpu"] = max_in_cpu
        (folder / "config.json").write_text(json.dumps(config))
        ranks = start_ranks(folder)
        ranks.wait_until(lambda: any((tmp_path / "output" / "work").glob("part-*")))
        on_disk[max_in_cpu] = sum(file.stat().st_size for file in (tmp_path / "disk").rglob("*.swp"))
        assert ranks.end().exit_codes == [0]
        parts_written = sorted((tmp_path / "output").glob("part-*.jsonl"))
        assert [json.loads(line) for part in parts_written for line in part.read_text().splitlines()] == expected
        shutil.rmtree(tmp_path / "output")
    assert 4 * 1_000_000 < on_disk[0] - on_disk[2_000_000] <= 4 * 2_000_000


def test_a_folder_that_takes_no_parameters_is_rejected_before_the_model_is_loaded(
    large_parameters: Path,
    job: Callable[..., Path],
    run_job: Callable[[Path], Any],
    write_jsonl: Callable[..., Path],
    weaknesses: list[dict[str, Any]],
) -> None:
    data = {"uris": [write_jsonl(weaknesses[:1]).as_uri()], "columns": {"prompt": "name"}}
    parts = {"data": data, "engine": "zero", "offloadParam": "nvme", "model": {"uri": large_parameters.as_uri()}}
    folder = job(ranks=1, **parts)
    config = json.loads((folder / "config.json").read_text())
    config["launch"]["offloadDir"] = "/proc/nowhere"
    (folder / "config.json").write_text(json.dumps(config))
    outcome = run_job(folder)
    assert outcome.exit_codes == [64]
    assert "/proc/nowhere/rank-0 cannot be written" in outcome.failure.message
