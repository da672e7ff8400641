"""Task score: the log-likelihoods of texts, completions and labels are those of transformers, with any engine."""

from __future__ import annotations

import functools
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaForCausalLM

from zerotune_trainer import engines, infer
from zerotune_trainer.errors import StoppedError

LABELS = [" injection", " overflow of a buffer", " x"]


@pytest.fixture
def scored(rows_here: Callable[..., list[dict[str, Any]]]) -> Callable[..., list[dict[str, Any]]]:
    """The output of a job of one rank, in this process."""
    return functools.partial(rows_here, "score")


@pytest.fixture
def likelihood(model: Any, tokenizer: Any) -> Callable[[str, str], tuple[float, int]]:
    """Log-likelihood of a continuation by transformers alone, one row, all logits; and its tokens."""

    def compute(prompt: str, continuation: str) -> tuple[float, int]:
        ids = tokenizer(prompt + continuation, return_tensors="pt")["input_ids"]
        start = len(tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            known = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        return float(known[start - 1 :].sum()), ids.shape[1] - start

    return compute


def test_texts(scored: Any, likelihood: Any, weaknesses: list[dict[str, Any]]) -> None:
    rows = [*weaknesses[:7], {"id": 0, "name": "", "description": ""}]
    found = scored(rows, {"columns": {"text": "name"}})
    for row in found[:-1]:
        expected, tokens = likelihood("", row["name"])
        assert row["generation"]["tokens"] == tokens
        assert row["generation"]["logLikelihood"] == pytest.approx(expected, abs=1e-4 * abs(expected))
        assert row["generation"]["perplexity"] == pytest.approx(math.exp(-expected / tokens), rel=1e-4)
    assert "column 'name' is empty" in found[-1]["error"]


def test_a_perplexity_that_no_number_holds_is_null(
    scored: Any, model_folder: Path, weaknesses: list[dict[str, Any]], tmp_path: Path
) -> None:
    model, folder = LlamaForCausalLM.from_pretrained(model_folder), tmp_path / "steep"
    shutil.copytree(model_folder, folder)
    with torch.no_grad():
        model.lm_head.weight *= 1e6
    model.save_pretrained(folder)
    [row] = scored(weaknesses[:1], {"columns": {"text": "name"}}, model={"uri": folder.as_uri()})
    assert row["generation"]["perplexity"] is None
    assert row["generation"]["logLikelihood"] < -709 * row["generation"]["tokens"]


def test_completions_behind_their_prompts(scored: Any, likelihood: Any, weaknesses: list[dict[str, Any]]) -> None:
    rows = [{"question": each["name"], "answer": f" {each['description'][:40]}"} for each in weaknesses[:7]]
    for row in scored(rows, {"columns": {"prompt": "question", "completion": "answer"}}):
        expected, tokens = likelihood(row["question"], row["answer"])
        assert row["generation"]["tokens"] == tokens
        assert row["generation"]["logLikelihood"] == pytest.approx(expected, abs=1e-4 * abs(expected))


def test_labels(scored: Any, likelihood: Any, weaknesses: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = [{"prompt": each["name"]} for each in weaknesses[:5]]
    for row in scored(rows, {}, labels=LABELS):
        expected = torch.tensor([likelihood(row["prompt"], label)[0] for label in LABELS])
        cell = row["generation"]
        assert list(cell["probabilities"].values()) == pytest.approx(expected.softmax(0).tolist(), abs=1e-4)
        assert sum(cell["probabilities"].values()) == pytest.approx(1)
        assert cell["label"] == LABELS[int(expected.argmax())]


def test_parquet_and_another_name_for_the_column_without_scoring_again(
    scored: Any, write_jsonl: Any, weaknesses: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"uris": [write_jsonl([{"prompt": each["name"]} for each in weaknesses[:5]]).as_uri()]}
    names = {"format": "parquet"}
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(infer, "write_results", Mock(side_effect=StoppedError("stopped")))
        scored([], data, labels=LABELS, outputFormat=names | {"generationColumn": "verdict"})
    first = pq.read_table(tmp_path / "output" / "part-000000.parquet")["verdict"].to_pylist()
    monkeypatch.setattr(engines.ENGINES["transformers"], "score", None)
    scored([], data, labels=LABELS, outputFormat=names | {"generationColumn": "judgement"})
    assert pq.read_table(tmp_path / "output" / "part-000000.parquet")["judgement"].to_pylist() == first
    assert first[0]["probabilities"].keys() == set(LABELS)


def test_a_text_that_is_too_long_is_an_error_or_loses_its_beginning(scored: Any, likelihood: Any) -> None:
    text = "weakness " * 200
    [row] = scored([{"text": text}], {"columns": {"text": "text"}})
    assert re.fullmatch(r"the text has [\d,]+ tokens, at most 256 fit", row["error"].partition(": ")[2])


def test_a_text_is_cut_where_the_job_says_so(scored: Any) -> None:
    [row] = scored(
        [{"text": "weakness " * 200}], {"columns": {"text": "text"}, "overflow": "truncate", "maxLength": 20}
    )
    assert row["generation"]["tokens"] == 19


@pytest.mark.slow
def test_every_engine_gives_the_same_scores(
    job: Any, run_job: Any, write_jsonl: Any, output_rows: Any, weaknesses: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Seven records for two ranks of two: with engine zero, a rank has one pass more than the other."""
    data = {"uris": [write_jsonl([{"prompt": each["name"]} for each in weaknesses[:7]]).as_uri()]}
    rows: dict[str, list[dict[str, float]]] = {}
    for engine, ranks in (("transformers", 1), ("zero", 1), ("deepspeed", 2)):
        parts = {"data": data, "task": "score", "labels": LABELS, "perDeviceBatchSize": 2, "tensorParallel": ranks}
        outcome = run_job(job(**parts, engine=engine, name=engine, output={"uri": (tmp_path / "output").as_uri()}))
        assert outcome.exit_codes == [0, 0], outcome.failure
        rows[engine] = [row["generation"]["logLikelihoods"] for row in output_rows()]
        (tmp_path / "output").rename(tmp_path / engine)
    for engine in ("zero", "deepspeed"):
        for expected, found in zip(rows["transformers"], rows[engine], strict=True):
            assert found == pytest.approx(expected, abs=1e-3, rel=1e-4)
