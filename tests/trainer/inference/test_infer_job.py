"""An InferenceJob from its folder to its output, on ranks as a launcher starts them."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import GenerationConfig

from zerotune_trainer.config import load_config
from zerotune_trainer.manifest import Manifest, differences, read_manifest
from zerotune_trainer.progress import Completion, Progress

pytestmark = pytest.mark.slow


def test_r48_r49_every_record_has_the_text_that_generate_gives_it_alone(
    tmp_path: Path,
    weaknesses: list[dict[str, Any]],
    write_jsonl: Any,
    output_rows: Any,
    job: Any,
    run_job: Any,
    model: Any,
    tokenizer: Any,
) -> None:
    data = {"uris": [write_jsonl(weaknesses).as_uri()], "columns": {"prompt": "name"}}
    outcome = run_job(job(data=data, generation={"maxNewTokens": 12}, ranks=3))
    assert outcome.exit_codes == [0, 0, 0], outcome.failure
    settings = GenerationConfig(max_new_tokens=12, eos_token_id=1, pad_token_id=1)
    for row, entry in zip(output_rows(), weaknesses, strict=True):
        ids = tokenizer(entry["name"], return_tensors="pt")["input_ids"]
        alone = model.generate(inputs=ids, generation_config=settings)[0, ids.shape[1] :]
        assert row == entry | {"generation": tokenizer.decode(alone, skip_special_tokens=True)}
    assert outcome.progress is not None
    assert (outcome.progress.step, outcome.progress.total, outcome.progress.failed_records) == (22, 22, 0)
    assert [entry.rank for heartbeat in outcome.heartbeats[0] for entry in heartbeat.topology or []][:3] == [0, 1, 2]


def test_r50_r55_d26_figures_of_every_batch_and_of_the_job(
    tmp_path: Path, weaknesses: list[dict[str, Any]], write_jsonl: Any, job: Any, run_job: Any
) -> None:
    data = {"uris": [write_jsonl(weaknesses).as_uri()], "columns": {"prompt": "name"}}
    run_job(job(data=data, perDeviceBatchSize=3))
    output = tmp_path / "output"
    batches = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert sum(batch["records"] for batch in batches) == len(weaknesses), "no rank does the work of another"
    assert max(batch["records"] for batch in batches) == 3
    assert all(batch["seconds"] > 0 and batch["tokensPerSecond"] > 0 for batch in batches)
    results = json.loads((output / "results.json").read_text())
    assert results["records"] == len(weaknesses)
    assert results["batches"] == len(batches)
    assert results["newTokens"] == sum(batch["newTokens"] for batch in batches) <= 6 * len(weaknesses)
    manifest = read_manifest(output)
    assert manifest is not None
    assert manifest.step == len(weaknesses)
    assert differences(output, manifest) == []
    assert {path.name for path in output.iterdir() if not path.name.startswith(".")} == {
        "manifest.json",
        *(file.path for file in manifest.files),
    }


def test_r53_d25_parquet_keeps_columns_types_and_order_in_bounded_files(
    tmp_path: Path, weaknesses: list[dict[str, Any]], job: Any, run_job: Any
) -> None:
    when = datetime.datetime(2024, 2, 29, 12, 30, 1, 123456, tzinfo=datetime.UTC)
    columns = {
        "id": pa.array([2**63 - number for number in range(1, 23)], pa.int64()),
        "small": pa.array(range(22), pa.int8()),
        "score": pa.array([number / 3 for number in range(22)], pa.float32()),
        "seen": pa.array([when] * 22, pa.timestamp("us", tz="UTC")),
        "tags": pa.array([["a", "b"], []] * 11, pa.list_(pa.string())),
        "kind": pa.array(["base", "class"] * 11, pa.dictionary(pa.int32(), pa.string())),
        "extra": pa.array([{"x": 1}, None] * 11, pa.struct([("x", pa.int16())])),
        "blob": pa.array([b"\x00\xff"] * 22, pa.binary()),
        "prompt": pa.array([entry["name"] for entry in weaknesses]),
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "input.parquet", row_group_size=5)
    data = {"uris": [(tmp_path / "input.parquet").as_uri()]}
    outcome = run_job(job(data=data, outputFormat={"rowsPerFile": 4}))
    assert outcome.exit_codes == [0, 0], outcome.failure
    parts = [pq.read_table(path) for path in sorted((tmp_path / "output").glob("part-*.parquet"))]
    assert [part.num_rows for part in parts] == [4, 4, 4, 4, 4, 2]
    result = pa.concat_tables(parts)
    assert result.drop_columns(["generation", "error"]).equals(table)
    assert result.column("error").null_count == 22
    assert all(result.column("generation").to_pylist())


def test_a_record_that_cannot_be_done_becomes_an_error_and_the_rest_goes_on(
    tmp_path: Path, write_jsonl: Any, output_rows: Any, job: Any, run_job: Any
) -> None:
    good = {"id": 1, "prompt": "SQL Injection"}
    lines = [
        good,
        '{"id": 2, "prompt": "cut off',
        {"id": 3, "text": "no prompt"},
        {"id": 4, "prompt": 17},
        {"id": 5, "prompt": "too long " * 200},
        "",
        "[6]",
        {"id": 7, "prompt": None},
        '{"id": 8, "prompt": "\\ud800"}',
        {"id": 9, "prompt": ""},
        good,
    ]
    path = write_jsonl(lines)
    outcome = run_job(job(data={"uris": [path.as_uri()]}))
    assert outcome.exit_codes == [0, 0], outcome.failure
    rows = output_rows()
    assert [row.get("id") for row in rows] == [1, None, 3, 4, 5, None, 7, None, 9, 1]
    assert [bool(row.get("generation")) for row in rows] == [True, *[False] * 8, True]
    assert rows[0] == rows[-1]
    assert ["error" in row for row in rows] == [False, *[True] * 8, False]
    for row, (line, text) in zip(
        rows[1:-1],
        [
            (2, "not JSON"),
            (3, "no column 'prompt'"),
            (4, "column 'prompt' holds int where text is wanted"),
            (5, "tokens, at most 250 fit"),
            (7, "is no JSON object"),
            (8, "column 'prompt' is null"),
            (9, "not JSON"),
            (10, "column 'prompt' is empty"),
        ],
        strict=True,
    ):
        assert row["error"].startswith(f"{path}:{line}: "), row
        assert text in row["error"]
    assert outcome.progress is not None
    assert (outcome.progress.step, outcome.progress.failed_records) == (10, 8)
    assert json.loads((tmp_path / "output" / "results.json").read_text())["failedRecords"] == 8


def test_a_line_that_is_not_utf8_becomes_an_error(tmp_path: Path, output_rows: Any, job: Any, run_job: Any) -> None:
    path = tmp_path / "input.jsonl"
    path.write_bytes(b'{"prompt": "XSS"}\n{"prompt": "caf\xe9"}\n{"prompt": "CSRF"}\n')
    outcome = run_job(job(data={"uris": [path.as_uri()]}, ranks=1))
    assert outcome.exit_codes == [0], outcome.failure
    first, broken, last = output_rows()
    assert first["generation"] and last["generation"]
    assert list(broken) == ["error"]
    assert broken["error"].startswith(f"{path}:2: ")
    assert "UTF-8" in broken["error"]


def test_columns_of_jsonl_stay_as_they_were_written(tmp_path: Path, write_jsonl: Any, job: Any, run_job: Any) -> None:
    lines = [
        '{"z": 1e3, "id": 123456789012345678901234567890, "prompt": "XSS", "a": 1.10, "\\u00e9": "\\u00e9"}',
        '{"prompt":"CSRF","n":null,"nested":{"b":[1.0,2]}}   ',
    ]
    outcome = run_job(job(data={"uris": [write_jsonl(lines).as_uri()]}, ranks=1))
    assert outcome.exit_codes == [0], outcome.failure
    written = (tmp_path / "output" / "part-000000.jsonl").read_text().splitlines()
    for before, after in zip(lines, written, strict=True):
        assert after.startswith(before.strip()[:-1] + ', "generation": "')


def test_jsonl_to_parquet_finds_one_type_for_all_files(
    tmp_path: Path, write_jsonl: Any, job: Any, run_job: Any
) -> None:
    rows: list[Any] = [{"prompt": "one", "n": 1}] * 5 + ["broken"] + [{"prompt": "two", "n": 1.5, "late": "x"}] * 5
    data = {"uris": [write_jsonl(rows).as_uri()]}
    formats = {"format": "parquet", "rowsPerFile": 4, "generationColumn": "answers", "errorColumn": "problem"}
    generation = {"maxNewTokens": 6, "numBeams": 2, "numReturnSequences": 2}
    outcome = run_job(job(data=data, generation=generation, outputFormat=formats))
    assert outcome.exit_codes == [0, 0], outcome.failure
    parts = [pq.read_table(path) for path in sorted((tmp_path / "output").glob("part-*.parquet"))]
    assert [part.num_rows for part in parts] == [4, 4, 3]
    table = pa.concat_tables(parts)
    assert table.schema == pa.schema(
        {
            "prompt": pa.string(),
            "n": pa.float64(),
            "late": pa.string(),
            "answers": pa.list_(pa.string()),
            "problem": pa.string(),
        }
    )
    assert [len(texts or []) for texts in table["answers"].to_pylist()] == [2] * 5 + [0] + [2] * 5
    problems = table["problem"].to_pylist()
    assert problems[:5] + problems[6:] == [None] * 10
    assert problems[5].startswith(f"{tmp_path / 'input.jsonl'}:6: not JSON")


def test_r52_conversations_with_a_system_prompt_and_a_function_of_ones_own(
    tmp_path: Path, write_jsonl: Any, output_rows: Any, job: Any, run_job: Any, model: Any, tokenizer: Any
) -> None:
    (tmp_path / "mine.py").write_text(
        "def shout(record):\n"
        "    turns = [{**turn, 'content': turn['content'].upper()} for turn in record['messages']]\n"
        "    return {'messages': turns}\n"
    )
    rows: list[dict[str, Any]] = [
        {"id": 1, "messages": [{"role": "user", "content": "what is cwe 79"}]},
        {"id": 2, "messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "hello"}]},
        {"id": 3, "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "done"}]},
    ]
    data = {
        "uris": [write_jsonl(rows).as_uri()],
        "systemPrompt": "be brief",
    }
    plugin = {"file": (tmp_path / "mine.py").as_uri(), "processing": "shout"}
    outcome = run_job(job(data=data, plugin=plugin, generation={"maxNewTokens": 8}, ranks=1))
    assert outcome.exit_codes == [0], outcome.failure
    prompts = [
        "<|system|>be brief</s><|user|>WHAT IS CWE 79</s><|assistant|>",
        "<|system|>OWN</s><|user|>HELLO</s><|assistant|>",
    ]
    settings = GenerationConfig(max_new_tokens=8, eos_token_id=1, pad_token_id=1)
    written = output_rows()
    for row, before, prompt in zip(written, rows, prompts, strict=False):
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        alone = model.generate(inputs=ids, generation_config=settings)[0, ids.shape[1] :]
        assert row == before | {"generation": tokenizer.decode(alone, skip_special_tokens=True)}
    assert "ends with the assistant" in written[2]["error"]
    assert written[2]["messages"] == rows[2]["messages"]


def test_a_finished_job_is_left_as_it_is(
    tmp_path: Path, weaknesses: list[dict[str, Any]], write_jsonl: Any, job: Any, run_job: Any
) -> None:
    data = {"uris": [write_jsonl(weaknesses).as_uri()], "columns": {"prompt": "name"}}
    folder = job(data=data, ranks=1)
    first = run_job(folder)
    assert first.exit_codes == [0]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "output").iterdir()}
    again = run_job(folder)
    assert again.exit_codes == [0]
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "output").iterdir()}
    assert before == after
    [reported] = [heartbeat.completion for heartbeat in first.heartbeats[0] if heartbeat.completion is not None]
    manifest = read_manifest(tmp_path / "output")
    assert manifest is not None
    assert reported == Completion(
        job_uid="uid-of-answers",
        config_digest=load_config(folder).digest(),
        uri=(tmp_path / "output").as_uri(),
        files=len(manifest.files),
        bytes=sum(len(content) for path, (_, content) in after.items() if path.name in _names(manifest)),
        progress=Progress(step=len(weaknesses), total=len(weaknesses), first_step=0, failed_records=0),
    )
    # The second time nothing began.
    found = reported.model_copy(update={"progress": reported.progress.model_copy(update={"first_step": None})})
    assert [heartbeat.completion for heartbeat in again.heartbeats[0] if heartbeat.completion is not None] == [found]
    assert again.progress == found.progress


def _names(manifest: Manifest) -> set[str]:
    return {file.path for file in manifest.files}
