"""Engines zero and deepspeed: ranks that hold one model together generate what a rank with a copy of its own does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.inference.adapters import write_adapter

pytestmark = pytest.mark.slow
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"doSample": True, "temperature": 0.8, "numReturnSequences": 2},
    "contrastive": {"penaltyAlpha": 0.6, "topK": 4},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_ranks_with_a_part_of_the_model_generate_what_a_whole_copy_does(
    name: str,
    rows_of: Callable[..., list[dict[str, Any]]],
    write_jsonl: Callable[..., Path],
    weaknesses: list[dict[str, Any]],
) -> None:
    """Nine records for two ranks of two: the last round has one, and texts end at different tokens."""
    data = {"uris": [write_jsonl(weaknesses[:9]).as_uri()], "columns": {"prompt": "name"}}
    generation = {"maxNewTokens": 12} | SETTINGS[name]
    rows = {}
    for engine in ("transformers", "zero", "deepspeed"):
        parts = {"data": data, "generation": generation, "engine": engine, "perDeviceBatchSize": 2}
        parts["tensorParallel"] = 2 if engine == "deepspeed" else 1
        rows[engine] = rows_of(engine, **parts)
    assert len(rows["zero"]) == 9
    assert rows["zero"] == rows["deepspeed"] == rows["transformers"]


@pytest.mark.parametrize("engine", [{"engine": "zero"}, {"engine": "deepspeed", "tensorParallel": 2}], ids=str)
def test_ranks_with_a_part_of_the_model_have_the_adapter_merged(
    engine: dict[str, Any],
    rows_of: Callable[..., list[dict[str, Any]]],
    write_jsonl: Callable[..., Path],
    model_folder: Path,
    weaknesses: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    adapter = {"uri": write_adapter(model_folder, tmp_path / "adapter").as_uri()}
    data = {"uris": [write_jsonl(weaknesses[:4]).as_uri()], "columns": {"prompt": "name"}}
    shared = {"data": data, "generation": {"maxNewTokens": 12}}
    copy = rows_of("copy", model=adapter, **shared)
    assert rows_of("parts", model=adapter, **shared, **engine) == copy != rows_of("base", **shared)


@pytest.mark.parametrize("engine", [{"engine": "zero"}, {"engine": "deepspeed", "tensorParallel": 2}], ids=str)
def test_one_rank_that_is_asked_to_stop_stops_all_before_the_next_token(
    engine: dict[str, Any],
    job: Callable[..., Path],
    start_ranks: Callable[[Path], Any],
    run_job: Callable[[Path], Any],
    write_jsonl: Callable[..., Path],
    output_rows: Callable[[], list[dict[str, Any]]],
    weaknesses: list[dict[str, Any]],
) -> None:
    """The rank that is asked leads nothing; texts are so long that no round ends by itself."""
    data = {"uris": [write_jsonl(weaknesses[:4]).as_uri()], "columns": {"prompt": "name"}}
    parts = {"data": data, "perDeviceBatchSize": 2} | engine
    ranks = start_ranks(job(**parts, generation={"maxNewTokens": 200, "minNewTokens": 200}))
    ranks.wait_until(lambda: any(each.phase == "generating" for each in ranks.heartbeats[1]))
    ranks.processes[1].terminate()
    stopped = ranks.end()
    assert stopped.exit_codes == [143, 143]
    assert {each[-1].failure.failure_class for each in stopped.heartbeats} == {"Stopped"}
    assert not output_rows()
