"""Task embed: vectors of texts are those of transformers' hidden states, with any engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from zerotune_devtools.harness.stub_inference import StubJob
from zerotune_trainer import engines, infer
from zerotune_trainer.errors import ConfigurationError, StoppedError


@pytest.fixture
def embedded(rows_here: Callable[..., list[dict[str, Any]]]) -> Callable[..., list[dict[str, Any]]]:
    """The output of a job of one rank, in this process."""
    return functools.partial(rows_here, "embed")


@pytest.fixture
def hidden(model: Any, tokenizer: Any) -> Callable[[str], torch.Tensor]:
    """The last hidden states of a text alone, [tokens, hidden size]."""

    def compute(text: str) -> torch.Tensor:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return model(ids, output_hidden_states=True).hidden_states[-1][0]

    return compute


def test_mean_of_the_hidden_states_scaled_to_length_one(
    embedded: Any, hidden: Any, weaknesses: list[dict[str, Any]]
) -> None:
    rows = [*weaknesses[:8], {"name": "", "description": ""}]
    found = embedded(rows, {"columns": {"text": "name"}})
    for row in found[:-1]:
        mean = hidden(row["name"]).mean(dim=0)
        assert row["generation"] == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)
    assert "column 'name' is empty" in found[-1]["error"]


def test_hidden_state_of_the_last_token_as_it_is(embedded: Any, hidden: Any, weaknesses: list[dict[str, Any]]) -> None:
    rows = [{"prompt": each["name"]} for each in weaknesses[:8]]
    for row in embedded(rows, {}, embedding={"pooling": "lastToken", "normalize": False}):
        assert row["generation"] == pytest.approx(hidden(row["prompt"])[-1].tolist(), abs=1e-5)


def test_of_a_text_that_is_too_long_the_end_is_embedded_where_the_job_says_so(embedded: Any, hidden: Any) -> None:
    rows = [{"text": "weakness " * 200}]
    [row] = embedded(rows, {"columns": {"text": "text"}})
    assert "at most 256 fit" in row["error"]


def test_parquet_has_fp32_lists_and_another_column_name_embeds_nothing_anew(
    embedded: Any, write_jsonl: Any, weaknesses: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"uris": [write_jsonl([{"prompt": each["name"]} for each in weaknesses[:5]]).as_uri()]}
    names = {"format": "parquet"}
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(infer, "write_results", Mock(side_effect=StoppedError("stopped")))
        embedded([], data, outputFormat=names | {"generationColumn": "vector"})
    first = pq.read_table(tmp_path / "output" / "part-000000.parquet")["vector"]
    monkeypatch.setattr(engines.ENGINES["transformers"], "embed", None)
    embedded([], data, outputFormat=names | {"generationColumn": "embedding"})
    assert pq.read_table(tmp_path / "output" / "part-000000.parquet")["embedding"].to_pylist() == first.to_pylist()
    assert first.type == pa.list_(pa.float32())


def test_a_stopped_job_goes_on_with_the_vectors_that_it_has(
    job: Any, write_jsonl: Any, output_rows: Any, weaknesses: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"uris": [write_jsonl([{"prompt": each["name"]} for each in weaknesses[:20]]).as_uri()]}
    folder = job(ranks=1, task="embed", data=data, perDeviceBatchSize=1)
    stopped, engine, batches = StubJob(folder), engines.ENGINES["transformers"], []
    whole = engine.embed  # type: ignore[attr-defined]

    def embed(self: Any, batch: Any, on_token: Any) -> Any:
        batches.append([request.record for request in batch])
        if len(batches) == 2:
            stopped.stop.set()
        return whole(self, batch, on_token)

    monkeypatch.setattr(engine, "embed", embed)
    with pytest.raises(StoppedError):
        stopped.run()
    StubJob(folder).run()
    done = [record for batch in batches for record in batch]
    assert len(batches) > 2
    assert len(set(done)) == 20
    assert all(len(row["generation"]) == len(output_rows()[0]["generation"]) for row in output_rows())


def test_vectors_that_are_not_finite_end_the_job(
    embedded: Any, weaknesses: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.functional, "normalize", lambda vectors, dim: vectors * float("inf"))
    with pytest.raises(ConfigurationError, match="not finite"):
        embedded([{"prompt": weaknesses[0]["name"]}], {})


@pytest.mark.slow
def test_every_engine_gives_the_same_vectors(
    job: Any, run_job: Any, write_jsonl: Any, output_rows: Any, weaknesses: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Seven records for two ranks of two: with engine zero, a rank has one pass more than the other."""
    data = {"uris": [write_jsonl([{"prompt": each["name"]} for each in weaknesses[:7]]).as_uri()]}
    rows: dict[str, list[list[float]]] = {}
    for engine, ranks in (("transformers", 1), ("zero", 1), ("deepspeed", 2)):
        parts = {"data": data, "task": "embed", "perDeviceBatchSize": 2, "tensorParallel": ranks}
        outcome = run_job(job(**parts, engine=engine, name=engine, output={"uri": (tmp_path / "output").as_uri()}))
        assert outcome.exit_codes == [0, 0], outcome.failure
        rows[engine] = [row["generation"] for row in output_rows()]
        (tmp_path / "output").rename(tmp_path / engine)
    for engine in ("zero", "deepspeed"):
        for expected, found in zip(rows["transformers"], rows[engine], strict=True):
            assert found == pytest.approx(expected, abs=1e-5)
