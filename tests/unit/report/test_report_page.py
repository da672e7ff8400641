from __future__ import annotations

import base64
import hashlib
import html
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.config.jobs import TrainConfig
from zerotune_trainer.errors import DataError, InputMissingError
from zerotune_trainer.reporting.report import write_report

Line = dict[str, Any]
WriteRun = Callable[..., TrainConfig]
VOID_ELEMENTS = {"meta", "br", "hr", "img", "link", "input"}
LOADING_ATTRIBUTES = {"src", "href", "srcset", "poster", "data", "action"}
LIMIT_BYTES = 1_000_000


class Page(HTMLParser):
    """A page's elements, and whether every one that opens also closes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def paths(self, style: str) -> list[str]:
        return [
            attributes["d"] or ""
            for tag, attributes in self.elements
            if tag == "path" and "key" not in _classes(attributes) and style in _classes(attributes)
        ]


def _classes(attributes: dict[str, str | None]) -> list[str]:
    return (attributes.get("class") or "").split()


def train_line(step: int) -> Line:
    return {
        "step": step,
        "epoch": step / 10,
        "loss": 2 + 6 / step,
        "learningRate": 1e-3 / step,
        "gradNorm": 1.0 + step % 3,
        "tokensPerSecond": 1000.0,
        "memoryBytes": 2**30 + step,
        "elapsedSeconds": step * 0.5,
    }


def eval_line(step: int, loss: float) -> Line:
    return {"step": step, "evalLoss": loss, "perplexity": math.exp(loss), "elapsedSeconds": step * 0.5}


def read(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_shows_everything_a_run_left_behind(write_run: WriteRun, tmp_path: Path) -> None:
    lines = [eval_line(0, 8.0), *map(train_line, range(1, 11)), eval_line(10, 3.0)]
    counts = {"train": {"records": 1234, "skippedRecords": 5}, "validation": {"records": 99, "skippedRecords": 0}}
    results = {"perplexity": 20.1, "firstPerplexity": 2981.0, "counts": counts, "zeroStage": 2}
    results |= {"skippedCheckpoints": ["checkpoint-6 does not load"]}
    page = read(write_report(tmp_path, write_run(lines, results=results)))

    titles = [html.unescape(text) for text in re.findall(r"<figcaption>(.*?)</figcaption>", _source(tmp_path))]
    assert titles == ["Loss", "Perplexity", "Learning rate", "Gradient norm", "Speed", "Memory"]
    for expected in (
        "Perplexity 2.98k 20.1",
        "ZeRO stage 2",
        "worker-1 worker-1 2 to 3 cpu 102, 103",
        "Count Train Validation",
        "Records 1,234 99",
        "Skipped records 5 0",
        f"file://{tmp_path}/data/train.jsonl",
        "fromFineTuneJob: secure-llama",
        '"learningRate": 0.002',
        "a checkpoint was skipped: checkpoint-6 does not load",
    ):
        assert expected in page.text


def test_loads_nothing_and_runs_nothing(write_run: WriteRun, tmp_path: Path) -> None:
    page = read(write_report(tmp_path, write_run([train_line(1)])))
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "base"}
    assert not [attributes for _, attributes in page.elements if LOADING_ATTRIBUTES & attributes.keys()]
    assert not re.search(r"url\(|@import", _source(tmp_path))


def test_its_policy_lets_its_own_style_in_and_nothing_else(write_run: WriteRun, tmp_path: Path) -> None:
    text = write_report(tmp_path, write_run([train_line(1), train_line(2)])).read_text(encoding="utf-8")
    page = Page(text)
    [policy] = [each["content"] for _, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not [attributes for _, attributes in page.elements if "style" in attributes]
    first = text.index("Content-Security-Policy")
    assert first < text.index("<style>") and first < text.index("secure-llama"), "it holds for all that comes after it"


def test_can_be_read_without_seeing_it(write_run: WriteRun, tmp_path: Path) -> None:
    page = read(write_report(tmp_path, write_run([eval_line(0, 8.0), train_line(1), train_line(2), eval_line(2, 5.0)])))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    named = [attributes.get("aria-labelledby") for tag, attributes in page.elements if tag in ("svg", "section")]
    assert named and all(name and set(name.split()) <= ids for name in named)
    assert len(ids) == sum("id" in attributes for _, attributes in page.elements)
    assert "training: 8 at step 1, 5 at step 2. evaluation: 8 at step 0, 5 at step 2." in page.text
    assert {"lang": "en"} in [attributes for tag, attributes in page.elements if tag == "html"]


def test_values_are_text_never_markup(write_run: WriteRun, tmp_path: Path) -> None:
    hostile = '</pre><script>alert("1")</script>&amp;'
    data = {"train": {"uris": [f"file:///{hostile}"]}, "systemPrompt": hostile}
    config = write_run([train_line(1)], {"data": data}, {"counts": {hostile: {hostile: 1}}})
    page = read(write_report(tmp_path, config))
    assert "script" not in [tag for tag, _ in page.elements]
    assert f"file:///{hostile}" in page.text


def test_one_step_is_a_mark(write_run: WriteRun, tmp_path: Path) -> None:
    page = read(write_report(tmp_path, write_run([train_line(1)])))
    assert sum(tag == "svg" for tag, _ in page.elements) == 5
    assert sum(tag == "circle" for tag, _ in page.elements) == 5


def test_no_logged_step_is_reported(write_run: WriteRun, tmp_path: Path) -> None:
    page = read(write_report(tmp_path, write_run([])))
    assert "No step was logged." in page.text


@pytest.mark.slow
def test_a_hundred_thousand_steps_stay_small_and_keep_their_peak(write_run: WriteRun, tmp_path: Path) -> None:
    lines = [train_line(step) for step in range(1, 100_001)]
    lines[70_000]["gradNorm"] = 49.0
    path = write_report(tmp_path, write_run(lines))
    assert path.stat().st_size < LIMIT_BYTES
    _loss, _rate, norm, _speed, _memory = read(path).paths("first")
    x, peak = min(re.findall(r"([\d.]+) ([\d.]+)", norm), key=lambda point: float(point[1]))
    left, right = 52, 504
    assert (float(x) - left) / (right - left) == pytest.approx(0.7, abs=0.01)
    assert float(peak) < 80


def test_values_that_are_no_numbers_are_gaps(write_run: WriteRun, tmp_path: Path) -> None:
    lines = [train_line(step) for step in range(1, 21)]
    lines[9]["loss"] = float("nan")
    lines[14]["loss"] = float("inf")
    del lines[16]["loss"]
    page = read(write_report(tmp_path, write_run(lines)))
    assert max(path.count("M") for path in page.paths("first") if "L" in path) == 4
    assert "not finite at 3 logged steps, first at step 10" in page.text


@pytest.mark.parametrize(
    ("losses", "changes", "expected"),
    [
        ({0: 8.0, 5: 3.0, 10: 3.5}, {}, "lowest at step 5 (3.0000) and 3.5000 at the end"),
        ({0: 8.0, 5: 4.0, 10: 3.0}, {}, "still falling at the end (4.0000 at step 5, 3.0000 at step 10)"),
        ({}, {}, "There was no evaluation"),
        ({0: 8.0, 10: 3.0}, {"training": {"maxGradNorm": 0.5}}, "training.maxGradNorm is 0.5"),
    ],
)
def test_says_what_to_do_next(
    write_run: WriteRun, tmp_path: Path, losses: dict[int, float], changes: Line, expected: str
) -> None:
    lines = [train_line(step) for step in range(1, 11)] + [eval_line(step, loss) for step, loss in losses.items()]
    assert expected in read(write_report(tmp_path, write_run(lines, changes))).text


def test_a_good_run_gets_no_warning(write_run: WriteRun, tmp_path: Path) -> None:
    lines = [train_line(step) for step in range(1, 11)] + [eval_line(0, 8.0), eval_line(5, 3.01), eval_line(10, 3.0)]
    text = read(write_report(tmp_path, write_run(lines, {"training": {"maxGradNorm": 5.0}}))).text
    assert "What to do next Run the model over records of your own" in text


def test_missing_and_broken_files_are_named(write_run: WriteRun, tmp_path: Path) -> None:
    config = write_run([train_line(1)])
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": ')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2"):
        write_report(tmp_path, config)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(InputMissingError, match=r"metrics\.jsonl is not there"):
        write_report(tmp_path, config)


def test_a_browser_draws_it(write_run: WriteRun, tmp_path: Path) -> None:
    """In Chromium where the machine has it; else by the bytes alone, which the tests above read."""
    path = write_report(tmp_path, write_run([train_line(step) for step in range(1, 100)]))
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    document = _dump(browser, path, tmp_path) if browser else _source(tmp_path)
    assert document.count("<svg") == document.count("</svg>") == 5
    assert '<title id="loss-title">Loss (nats per token) by optimizer step</title>' in document


def _dump(browser: str, path: Path, folder: Path) -> str:
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'browser'}", "--dump-dom"]
    command = [browser, *flags.split(), *more, path.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _source(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")
