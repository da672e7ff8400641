"""The report of an InferenceJob: what was generated at which pace, what failed of what, and the first records."""

from __future__ import annotations

from typing import Any

import pytest

from zerotune_trainer.config.jobs import InferConfig
from zerotune_trainer.inference.rows import OutputRow, shown
from zerotune_trainer.reporting.inference_report import inference_page
from zerotune_trainer.reporting.inference_results import FileFigures, InferenceResults
from zerotune_trainer.reporting.record_outcomes import MOST_CLASSES, OTHERS, ErrorClasses, ShownRecord

CONFIG = InferConfig.model_validate(
    {
        "job": {"kind": "InferenceJob", "name": "triage", "uid": "u-1"},
        "launch": {"cacheDir": "/cache"},
        "model": {"uri": "s3://models/m"},
        "output": {"uri": "s3://results/r"},
        "data": {"uris": ["s3://data/events.jsonl"]},
        "engine": "transformers",
        "generation": {"maxNewTokens": 8},
        "outputFormat": {},
    }
)
FILES = [FileFigures(100, 2000, 500, 10.0), FileFigures(50, 500, 400, 4.0), FileFigures(25, 0, 0, 0.0)]


def page(errors: dict[str, int] | None = None, records: list[ShownRecord] | None = None, **figures: Any) -> str:
    results = {"records": 175, "failedRecords": 25, "files": 3, "batches": 9, "promptTokens": 2500, "newTokens": 900}
    times = {"generatingSeconds": 14.0, "tokensPerSecondPerRank": 64.3, "medianBatchSeconds": 1.5}
    whole = InferenceResults.model_validate({**results, **times, "slowestBatchSeconds": 4.0, **figures})
    return inference_page(CONFIG, whole, FILES, errors or {}, records or []).decode()


def test_it_shows_pace_and_lengths_along_the_records() -> None:
    text = page()
    assert "<h1>triage</h1>" in text
    assert "175 records with engine transformers" in text
    assert "mean of a file: 50 at record 100, 100 at record 150." in text
    assert "prompt: 20 at record 100, 10 at record 150. answer: 5 at record 100, 8 at record 150." in text
    assert text.count("<svg") == 2
    assert "Failed records</h2>" not in text


def test_errors_are_listed_by_how_many_records_have_them() -> None:
    text = page({"the prompt has N tokens": 5, "it is no object": 20})
    assert text.index("it is no object") < text.index("the prompt has N tokens")


def test_a_job_that_generated_nothing_has_a_page() -> None:
    text = page(tokensPerSecondPerRank=None, medianBatchSeconds=None, slowestBatchSeconds=None, batches=0)
    assert "Tokens per second and rank" not in text


def test_markup_in_a_record_stays_text() -> None:
    row = OutputRow({"text": "<script>alert(1)</script>"}, generation="<b>bold</b>")
    text = page(records=[shown(row)])
    assert "<script>" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text


@pytest.mark.parametrize(
    ("row", "result", "is_error"),
    [
        (OutputRow({"a": 1}, generation="yes"), "yes", False),
        (OutputRow({"a": 1}, generation=["yes", "no"]), '["yes", "no"]', False),
        (OutputRow({"a": 1}, generation={"label": "yes"}), '{"label": "yes"}', False),
        (OutputRow({"a": 1}, error="it is too long"), "it is too long", True),
        (OutputRow({"a": 1}, generation="x" * 1000), "x" * 600 + " ...", False),
    ],
)
def test_a_record_is_shown_with_what_became_of_it(row: OutputRow, result: str, is_error: bool) -> None:
    assert shown(row) == ShownRecord(record='{"a": 1}', result=result, is_error=is_error)


def test_errors_that_differ_in_numbers_alone_are_of_one_class() -> None:
    errors = ["the prompt has 1,234 tokens, at most 512", "the prompt has 99 tokens, at most 512", "no object\nat all"]
    assert ErrorClasses.of(errors).counts == {"the prompt has N tokens, at most N": 2, "no object": 1}


def test_no_more_than_so_many_classes_are_kept_and_none_is_lost() -> None:
    found = ErrorClasses.of(f"error {chr(97 + each % 26)}{chr(97 + each // 26)}" for each in range(100))
    assert len(found.counts) == MOST_CLASSES + 1
    assert sum(found.counts.values()) == 100
    assert found.counts[OTHERS] == 100 - MOST_CLASSES
