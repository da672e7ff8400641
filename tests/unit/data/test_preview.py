"""`zerotune data preview` and `prepare`: what the model will see, before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import write_jsonl
from zerotune_operator.api.jobs import FineTuneJob
from zerotune_operator.api.load import parse_job
from zerotune_operator.cli.data import plan_here, prepare
from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.plugin import Plugin
from zerotune_trainer.config.training import Preference
from zerotune_trainer.data.__main__ import main
from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.data.preview import histogram, marked
from zerotune_trainer.errors import DataError

MakeConfig = Callable[..., TrainConfig]
MODELS = Path(__file__).parents[2] / "golden" / "plan" / "models"
EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"
PAIR = {"prompt": "What is CWE-79?", "completion": " Cross-site scripting"}
PREFERENCE = {"prompt": "What is CWE-79?", "chosen": " Cross-site scripting", "rejected": " A buffer overflow"}


def written(config: TrainConfig, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    return str(folder)


def test_preview_marks_loss_tokens_and_names_what_was_skipped_and_why(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = PAIR | {"completion": " scripting" * 90}
    config = make_config([PAIR, long, PAIR], overflow="skip", maxLength=32)
    assert main(["preview", "--rows", "1", written(config, tmp_path / "job")]) == 0
    printed = capsys.readouterr().out
    assert "train row 1 of 2: " in printed and "row 2" not in printed
    assert "<s>What is CWE-79?⟦ Cross-site scripting</s>⟧\n" in printed
    assert "train.jsonl:2: " in printed and "tokens are more than data.maxLength 32" in printed
    assert "1 record skipped, too long" in printed


@pytest.mark.parametrize(
    ("labels", "weight", "warning"),
    [
        ([True] * 3, 1.0, "all 3 completions to train on are good: method kto learns from both kinds"),
        ([False] * 3, 1.0, "all 3 completions to train on are bad"),
        ([True, False, False, False, False], 1.0, "1 good and 4 bad completions weigh 0.25 to 1"),
        ([True, False, False, False, False], 4.0, ""),
        ([True, False], 1.0, ""),
    ],
)
def test_good_and_bad_completions_are_counted_and_weighed(
    make_config: MakeConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    labels: list[bool],
    weight: float,
    warning: str,
) -> None:
    records = [{"prompt": f"Is {n} known?", "completion": " yes", "label": label} for n, label in enumerate(labels)]
    config = make_config(records, method="kto")
    config = config.model_copy(update={"preference": Preference(desirable_weight=weight)})
    assert main(["preview", written(config, tmp_path / "job")]) == 0
    printed = capsys.readouterr().out
    assert f"{labels.count(True)} of the completions are good, {labels.count(False)} bad" in printed
    assert f"warning: {warning}" in printed if warning else "warning" not in printed


def test_no_text_of_a_record_moves_the_cursor_or_turns_around(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = "a\x1b[2Jb\u202ec\u2066d\r\x9be"
    config = make_config([{"prompt": turned, "completion": " Cross-site scripting"}])
    assert main(["preview", written(config, tmp_path / "job")]) == 0
    printed = capsys.readouterr().out
    assert r"a\x1b[2Jb\u202ec\u2066d\r\x9be" in printed
    config = make_config([{"prompt": "a", "completion": " b"}], columns={"prompt": "prompt", "completion": turned})
    assert main(["preview", written(config, tmp_path / "other")]) == 66
    for text in (capsys.readouterr().err, printed):
        assert all(character.isprintable() or character in "\n\t" for character in text)


def test_preview_shows_packed_blocks_as_the_job_trains_on_them(
    make_config: MakeConfig,
    tokenizer: PreTrainedTokenizerFast,
    weaknesses: list[dict[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = make_config(weaknesses[:20], method="cpt", maxLength=64, packing="wrapped")
    assert main(["preview", "--rows", "2", written(config, tmp_path / "job")]) == 0
    rows, printed = data.prepare(config, tokenizer).train, capsys.readouterr().out
    for index in range(2):
        assert f"⟦{tokenizer.decode(rows[index]['input_ids'], clean_up_tokenization_spaces=False)}⟧\n" in printed


@pytest.mark.parametrize(("method", "shown"), [("dpo", [", rejected: "]), ("kto", [", completion, good: ", "another"])])
def test_preview_shows_both_sequences_of_a_preference(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, shown: list[str]
) -> None:
    config = make_config([PREFERENCE, PREFERENCE], method=method)
    assert main(["preview", written(config, tmp_path / "job")]) == 0
    printed = capsys.readouterr().out
    assert "⟦ Cross-site scripting</s>⟧" in printed and "⟦ A buffer overflow</s>⟧" in printed
    assert all(text in printed for text in shown)


def test_the_preview_of_kto_shows_how_long_its_records_are(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the most that a completion after the prompt of another record may take."""
    long = PREFERENCE | {"prompt": "What is CWE-79? " * 20}
    config = make_config([PREFERENCE, long], method="kto", maxLength=48, overflow="truncate")
    assert main(["preview", written(config, tmp_path / "job")]) == 0
    printed = capsys.readouterr().out
    assert "the longest sequence 48 tokens" in printed and "1 record truncated" in printed
    short = make_config([PREFERENCE], method="kto", maxLength=64)
    assert data.prepare(short, tokenizer).train.longest() == 64
    assert main(["preview", written(short, tmp_path / "short")]) == 0
    lengths = [len(tokenizer(PREFERENCE["prompt"] + PREFERENCE[name])["input_ids"]) for name in ("chosen", "rejected")]
    assert f"the longest sequence {max(lengths) + 1} tokens" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
def test_a_job_trains_on_prepared_preferences_as_on_their_records(
    make_config: MakeConfig,
    tokenizer: PreTrainedTokenizerFast,
    listed: Callable[[Any], list[dict[str, Any]]],
    tmp_path: Path,
    method: str,
) -> None:
    config = make_config([PREFERENCE, PREFERENCE | {"prompt": "Again: what is CWE-79?"}], method=method)
    assert main(["prepare", written(config, tmp_path / "job"), f"file://{tmp_path}/rows"]) == 0
    prepared = make_config(tmp_path / "rows", method=method, train={"uris": [f"file://{tmp_path}/rows"]})
    assert listed(data.prepare(prepared, tokenizer).train) == listed(data.prepare(config, tokenizer).train)


def test_first_takes_so_many_records_of_each_split(make_config: MakeConfig, tmp_path: Path) -> None:
    held = write_jsonl(tmp_path / "held.jsonl", [PAIR] * 9)
    config = make_config([PAIR] * 9, validation={"uris": [f"file://{held}"]})
    assert main(["prepare", written(config, tmp_path / "job"), str(tmp_path / "rows"), "--first", "4"]) == 0
    assert datasets.load_from_disk(str(tmp_path / "rows")).num_rows == {"train": 4, "validation": 4}


@settings(max_examples=25)
@given(counts=st.lists(st.booleans(), min_size=1, max_size=40), data=st.data())
def test_marks_take_nothing_from_the_text(tokenizer_folder: Path, counts: list[bool], data: st.DataObject) -> None:
    tokenizer = _tokenizer(tokenizer_folder)
    ids = data.draw(st.lists(st.integers(4, 799), min_size=len(counts), max_size=len(counts)))
    labels = np.where(counts, ids, IGNORE_INDEX).astype(np.int32)
    text = marked(np.array(ids, dtype=np.int32), labels, tokenizer)
    assert len(text.replace("⟦", "").replace("⟧", "")) == len(tokenizer.decode(ids))
    assert text.count("⟦") == sum(now and not before for before, now in zip([False, *counts], counts, strict=False))


_loaded: dict[Path, PreTrainedTokenizerFast] = {}


def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return _loaded.setdefault(folder, PreTrainedTokenizerFast.from_pretrained(folder))


@settings(max_examples=25)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50))
def test_a_histogram_counts_every_length_once(lengths: list[int]) -> None:
    parts = [line.split() for line in histogram(lengths)]
    assert sum(int(number) for _, _, _, number, *_ in parts) == len(lengths) and len(parts) <= 10
    for begin, _, end, number, *_ in parts:
        assert sum(int(begin) <= length <= int(end) for length in lengths) == int(number)


def test_a_function_that_fails_in_a_preview_is_printed_with_its_traceback(
    make_config: MakeConfig,
    write_function: Callable[[str], dict[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = make_config([PAIR], plugin=write_function("    record['x'] = record['none']"))
    assert main(["preview", written(config, tmp_path / "job")]) == 64
    printed = capsys.readouterr().err
    assert "hint: correct the function; its whole traceback is printed above" in printed
    assert "Traceback (most recent call last)" in printed and "KeyError: 'none'" in printed
    assert "the log" not in printed


@pytest.mark.slow
def test_a_process_that_users_code_ends_has_not_done_its_work(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config([PAIR])
    plugin = tmp_path / "plugin.py"
    plugin.write_text("import os\n\nos._exit(0)\n")
    config = config.model_copy(update={"plugin": Plugin(file=plugin.as_uri(), processing="f")})
    text = config.model_dump_json(by_alias=True, exclude_none=True)
    plan = SimpleNamespace(artifacts=lambda: {"config.json": text})
    monkeypatch.setattr("zerotune_operator.cli.data.plan_here", lambda _: plan)
    job = tmp_path / "job.yaml"
    job.write_text((EXAMPLES / "sft.yaml").read_text())
    with pytest.raises(DataError, match="ended before it was done, with exit code 0"):
        prepare(job, str(tmp_path / "out"))


def test_the_command_needs_neither_the_gpus_nor_the_memory_of_the_job(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's commands run it."""
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path))
    shutil.copytree(tokenizer_folder, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_bytes((MODELS / "tiny-llama.json").read_bytes())
    spec = {
        "method": "sft",
        "model": {"uri": (tmp_path / "model").as_uri()},
        "data": {"train": {"uris": ["file:///d.jsonl"]}},
        "topology": {"gpusPerNode": 8, "memory": "1Gi"},
        "zero": {"stage": 0},
    }
    manifest = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "a"}, "spec": spec}
    job = parse_job(manifest)
    assert isinstance(job, FineTuneJob)
    assert plan_here(job).config.launch.cache_dir == str(tmp_path / "cache")
