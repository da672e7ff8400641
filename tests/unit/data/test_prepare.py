"""The whole way from files to rows: counted, cached, shared, the same each time."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data import parallel
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, OutOfMemoryError, ZerotuneError

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast
Rows = list[dict[str, Any]]


def listed(dataset: Any) -> Rows:
    return [{name: value.tolist() for name, value in row.items()} for row in dataset]


def write_function(tmp_path: Path, body: str) -> dict[str, str]:
    """A processing function, as the spec names it."""
    path = tmp_path / "processing.py"
    path.write_text(f"import os, signal, time\n\n\ndef process(record):\n{body}\n    return record\n")
    return {"file": f"file://{path}", "function": "process"}


def elsewhere(config: TrainConfig, cache: Path) -> TrainConfig:
    """The same job with another cache."""
    return config.model_copy(update={"launch": config.launch.model_copy(update={"cache_dir": str(cache)})})


@pytest.mark.parametrize("packing", ["wrapped", "bfd_split"])
def test_cpt_trains_every_token_and_ends_every_document(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, packing: str
) -> None:
    prepared = data.prepare(make_config(weaknesses, method="cpt", packing=packing, maxLength=128), tokenizer)
    documents = [[*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id] for row in weaknesses]
    tokens = [token for document in documents for token in document]
    rows = listed(prepared.train)
    found = [token for row in rows for token in row["input_ids"]]
    assert sorted(found) == sorted(tokens)
    assert packing == "bfd_split" or found == tokens
    assert all(row["labels"] == row["input_ids"] for row in rows)
    assert max(len(row["input_ids"]) for row in rows) == 128
    size = len(tokens)
    assert prepared.counts == data.DataCounts(
        train=data.SplitCounts(records=len(weaknesses), rows=len(rows), tokens=size, loss_tokens=size)
    )
    assert prepared.validation is None


def test_cpt_wraps_unless_told_otherwise_and_sft_does_not_pack(make_config: MakeConfig) -> None:
    record = [{"text": "x"}]
    assert data.packing_of(make_config(record, method="cpt")) == "wrapped"
    assert data.packing_of(make_config(record, method="sft")) == "none"
    assert data.packing_of(make_config(record, method="cpt", packing="none")) == "none"


def pairs(weaknesses: Rows) -> Rows:
    return [{"prompt": f"What is CWE-{row['id']}?", "completion": f" {row['name']}"} for row in weaknesses]


@pytest.mark.parametrize("packing", ["none", "wrapped", "bfd_split"])
def test_r12_sft_packs_and_does_not_with_the_same_tokens_and_labels(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, packing: str
) -> None:
    records = pairs(weaknesses)
    rows = listed(data.prepare(make_config(records, packing=packing, maxLength=128), tokenizer).train)
    plain = listed(data.prepare(make_config(records, maxLength=128), tokenizer).train)
    assert len(plain) == len(records) and (packing == "none" or len(rows) < len(plain) / 2)

    def tokens(of: Rows) -> list[tuple[int, int]]:
        return sorted(pair for row in of for pair in zip(row["input_ids"], row["labels"], strict=True))

    assert tokens(rows) == tokens(plain)


def test_rows_do_not_depend_on_the_number_of_processes(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, tmp_path: Path
) -> None:
    config = make_config(weaknesses * 4, method="cpt", packing="none", maxLength=4096)
    found = [
        listed(data.prepare(elsewhere(config, tmp_path / f"cache{processes}"), tokenizer, processes).train)
        for processes in (1, 2, 3)
    ]
    assert found[0] == found[1] == found[2]
    assert [row["input_ids"][1:-1] for row in found[0][:3]] == [
        tokenizer(row["text"], add_special_tokens=False)["input_ids"] for row in weaknesses[:3]
    ]


def test_a_bad_record_is_the_same_error_in_many_processes(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows
) -> None:
    records = [*weaknesses * 3, {"text": None}, {"text": None}]
    with pytest.raises(DataError, match=r"train.jsonl:901: column 'text' is null"):
        data.prepare(make_config(records, method="cpt"), tokenizer, processes=3)


LONG = [{"text": "one"}, {"text": "weakness " * 30}, {"text": "two"}]


def test_too_long_a_record_is_an_error_that_says_what_to_do(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    size = len(tokenizer(LONG[1]["text"])["input_ids"]) + 1
    with pytest.raises(DataError, match=rf"train.jsonl:2: {size} tokens are more than data.maxLength 16") as caught:
        data.prepare(make_config(LONG, maxLength=16), tokenizer)
    assert "raise data.maxLength" in caught.value.hint and "truncate or skip" in caught.value.hint


@pytest.mark.parametrize("side", ["right", "left"])
def test_r34_truncation_keeps_one_side_and_is_counted(make_config: MakeConfig, tokenizer: Tokenizer, side: str) -> None:
    config = make_config(LONG, maxLength=16, overflow="truncate", truncationSide=side)
    prepared = data.prepare(config, tokenizer)
    ids = [*tokenizer(LONG[1]["text"])["input_ids"], tokenizer.eos_token_id]
    kept = ids[:16] if side == "right" else ids[-16:]
    assert prepared.train[1]["input_ids"].tolist() == prepared.train[1]["labels"].tolist() == kept
    counts = prepared.counts.train
    assert (counts.records, counts.rows, counts.truncated_records, counts.dropped_tokens) == (3, 3, 1, len(ids) - 16)


def test_skipping_is_counted(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    counts = data.prepare(make_config(LONG, maxLength=16, overflow="skip"), tokenizer).counts.train
    size = len(tokenizer(LONG[1]["text"])["input_ids"]) + 1
    assert (counts.records, counts.rows, counts.skipped_records, counts.dropped_tokens) == (3, 2, 1, size)


def test_a_row_whose_answer_was_cut_off_is_skipped_not_trained_without_loss(
    make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    records = [{"prompt": "one", "completion": " two"}, {"prompt": "weakness " * 30, "completion": " x"}]
    counts = data.prepare(make_config(records, maxLength=16, overflow="truncate"), tokenizer).counts.train
    assert (counts.rows, counts.skipped_records, counts.truncated_records) == (1, 1, 0)


def test_nothing_left_is_an_error(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"none of the 1 records fits into data.maxLength 16"):
        data.prepare(make_config(LONG[1:2], maxLength=16, overflow="skip"), tokenizer)


@pytest.mark.parametrize("packing", ["none", "wrapped", "bfd_split"])
def test_held_out_records_are_never_trained_on(make_config: MakeConfig, tokenizer: Tokenizer, packing: str) -> None:
    records = [{"input_ids": [number] * 5} for number in range(100)]
    config = make_config(records, packing=packing, validationFraction=0.1, maxLength=16)
    prepared = data.prepare(config, tokenizer)

    def seen(dataset: Any) -> set[int]:
        return {token for row in listed(dataset) for token in row["input_ids"]}

    held_out = seen(prepared.validation)
    assert len(held_out) == 10 and seen(prepared.train) == set(range(100)) - held_out
    assert prepared.counts.validation is not None
    assert (prepared.counts.train.records, prepared.counts.validation.records) == (90, 10)
    assert (prepared.counts.train.tokens, prepared.counts.validation.tokens) == (450, 50)
    other_seed = config.model_copy(update={"training": config.training.model_copy(update={"seed": 8})})
    assert seen(data.prepare(other_seed, tokenizer).validation) != held_out


def test_the_split_does_not_depend_on_the_packing(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    records = [{"input_ids": [number] * 5} for number in range(50)]
    found = [
        {token for row in listed(data.prepare(config, tokenizer).validation) for token in row["input_ids"]}
        for config in (make_config(records, packing=each, validationFraction=0.2) for each in ("none", "wrapped"))
    ]
    assert found[0] == found[1]


def test_validation_records_of_their_own(make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "held.jsonl").write_text('{"text": "held out"}\n')
    config = make_config([{"text": "trained"}], validation={"uris": [f"file://{tmp_path}/held.jsonl"]})
    prepared: Any = data.prepare(config, tokenizer)
    assert tokenizer.decode(prepared.validation[0]["input_ids"]) == "<s>held out</s>"
    assert tokenizer.decode(prepared.train[0]["input_ids"]) == "<s>trained</s>"


def test_one_record_cannot_be_divided(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"1 record cannot be divided by data.validationFraction 0.5"):
        data.prepare(make_config([{"text": "x"}], validationFraction=0.5), tokenizer)


LOGGING = "    open({log!r}, 'a').write(record['text'] + '\\n')\n    record['text'] += '!'"


def test_r32_a_function_of_the_user_makes_the_records(
    make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    function = write_function(tmp_path, "    record = {'text': f\"{record['cwe']}: {record['name']}\"}")
    config = make_config([{"cwe": 79, "name": "XSS"}], processing=function)
    row = data.prepare(config, tokenizer).train[0]
    assert tokenizer.decode(row["input_ids"]) == "<s>79: XSS</s>"


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("    record['x'] = record['none']", DataError, r"processing.py:process failed at .*train.jsonl:1: KeyError"),
        ("    return 7", DataError, r"processing.py:process returned int at .*train.jsonl:1"),
        ("  syntax error", ConfigurationError, r"processing.py cannot be executed: .*Error"),
    ],
)
def test_a_function_that_fails_is_named_with_the_record(
    make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path, body: str, error: type[ZerotuneError], message: str
) -> None:
    config = make_config([{"text": "x"}], processing=write_function(tmp_path, body))
    with pytest.raises(error, match=message):
        data.prepare(config, tokenizer)


def test_a_function_that_is_not_there_is_named(make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    function = write_function(tmp_path, "    pass") | {"function": "proces"}
    with pytest.raises(InputMissingError, match="defines no function 'proces'") as caught:
        data.prepare(make_config([{"text": "x"}], processing=function), tokenizer)
    assert "did you mean 'process'" in caught.value.hint


def test_the_same_content_is_tokenized_once_wherever_it_lies(
    make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    records = [{"text": "one"}, {"text": "two"}]
    function = write_function(tmp_path, LOGGING.format(log=str(log)))

    def calls(config: TrainConfig, given: Tokenizer = tokenizer) -> int:
        log.write_text("")
        data.prepare(config, given)
        return len(log.read_text().splitlines())

    # The first record is looked at before the others, so there is a call more than records.
    config = make_config(records, processing=function)
    assert calls(config) == 3
    assert calls(config) == 0
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((tmp_path / "train.jsonl").read_bytes())
    assert calls(make_config(copy, processing=function)) == 0
    assert calls(make_config(copy, processing=function, packing="wrapped")) == 3
    assert calls(make_config(copy, processing=function, packing="bfd_split")) == 0
    copy.write_text('{"text": "one"}\n{"text": "six"}\n')
    assert calls(make_config(copy, processing=function)) == 3
    again = write_function(tmp_path, LOGGING.format(log=str(log)) + "\n    record['text'] += '!'")
    assert calls(make_config(copy, processing=again)) == 3
    tokenizer.chat_template = "{{ messages }}"
    assert calls(make_config(copy, processing=again)) == 3
    assert calls(make_config(copy, processing=again, maxLength=16)) == 3


def prepare_and_exit(config: TrainConfig, tokenizer: Tokenizer, processes: int) -> None:
    """In a process of its own, as a rank: exits with the error's code, SIGTERM raises."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        data.prepare(config, tokenizer, processes)
    except ZerotuneError as error:
        sys.exit(error.exit_code)


def start(config: TrainConfig, tokenizer: Tokenizer, processes: int = 1) -> Any:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=prepare_and_exit, args=(config, tokenizer, processes))
    process.start()
    return process


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_of_many_ranks_one_tokenizes(make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    function = write_function(tmp_path, LOGGING.format(log=str(log)) + "\n    time.sleep(0.1)")
    config = make_config([{"text": str(number)} for number in range(10)], processing=function)
    ranks = [start(config, tokenizer) for _ in range(4)]
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(["0", *map(str, range(10))])


def test_a_rank_that_waits_can_be_stopped(make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    body = f"    open({str(started)!r}, 'w')\n    while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    config = make_config([{"text": "x"}], processing=write_function(tmp_path, body))
    builder = start(config, tokenizer)
    wait_for(started.exists)
    waiting = start(config, tokenizer)
    time.sleep(0.5)
    assert waiting.is_alive()
    waiting.terminate()
    waiting.join(10)
    assert waiting.exitcode == 143
    go.touch()
    builder.join()
    assert builder.exitcode == 0


@pytest.mark.parametrize("processes", [1, 2])
def test_a_builder_that_is_killed_leaves_nothing_half_and_no_lock(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, tmp_path: Path, processes: int
) -> None:
    marker = tmp_path / "marker"
    body = f"    if record['id'] == 'last' and not os.path.exists({str(marker)!r}): time.sleep(60)"
    records = [*weaknesses * 3, {"id": "last", "text": "the last"}]
    config = make_config(records, method="cpt", processing=write_function(tmp_path, body))
    builder = start(config, tokenizer, processes)
    drafts = tmp_path / "cache/data"
    wait_for(lambda: any(path.stat().st_size for path in drafts.glob(".*.draft/rows.arrow")))
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert [path for path in drafts.iterdir() if not path.name.startswith(".")] == []
    marker.touch()
    rows = listed(data.prepare(config, tokenizer, processes).train)
    undisturbed = elsewhere(config, tmp_path / "another")
    assert rows == listed(data.prepare(undisturbed, tokenizer, processes).train)


def test_a_process_that_is_killed_is_an_error(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, tmp_path: Path
) -> None:
    body = f"    if record['id'] == 'last' and os.getpid() != {os.getpid()}: os.kill(os.getpid(), signal.SIGKILL)"
    records = [*weaknesses * 3, {"id": "last", "text": "the last"}]
    config = make_config(records, method="cpt", processing=write_function(tmp_path, body))
    with pytest.raises(OutOfMemoryError, match="a process that tokenizes was killed"):
        data.prepare(config, tokenizer, processes=2)
    assert list((tmp_path / "cache/data").glob("[!.]*")) == []


def test_processes_end_with_the_one_that_started_them(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    body = f"    open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\n    if record['id'] == 'last': time.sleep(60)"
    records = [*weaknesses * 3, {"id": "last", "text": "the last"}]
    config = make_config(records, method="cpt", processing=write_function(tmp_path, body))
    rank = start(config, tokenizer, processes=2)
    wait_for(lambda: len(set(pids.read_text().split())) == 3 if pids.exists() else False)
    os.kill(rank.pid, signal.SIGKILL)
    rank.join()
    wait_for(lambda: not any(map(is_running, set(pids.read_text().split()))))


def is_running(pid: str) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_chunks_end_by_size_too() -> None:
    big = Record({"text": "x" * (1 << 20)}, "f", 1)
    small = Record({"text": "x"}, "f", 1)
    assert [len(chunk) for chunk in parallel.chunked([small] * 300 + [big, small])] == [256, 45, 1]


def test_a_file_that_changes_size_is_read_again(make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = make_config([{"text": "one"}])
    assert len(data.prepare(config, tokenizer).train) == 1
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "one"}) + "\n" + json.dumps({"text": "two"}) + "\n")
    assert len(data.prepare(config, tokenizer).train) == 2
