"""What an InferenceJob cannot be done with: the failure has class, value, rule and remedy, and nothing is lost."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zerotune_devtools.harness.stub_inference import StubJob
from zerotune_trainer.errors import ConfigurationError, StoppedError

pytestmark = pytest.mark.slow


@pytest.fixture
def rejected(job: Any, run_job: Any) -> Callable[..., str]:
    """Runs a job that must fail with this exit code on rank 0, and gives what it reported."""

    def run(exit_code: int, **parts: Any) -> str:
        outcome = run_job(job(ranks=1, **parts))
        assert outcome.exit_codes == [exit_code]
        assert outcome.failure is not None
        assert outcome.failure.hint, "every error has a remedy"
        return str(outcome.failure.message)

    return run


@pytest.fixture
def question(write_jsonl: Any) -> dict[str, Any]:
    return {"uris": [write_jsonl([{"prompt": "What is XSS?"}] * 3).as_uri()]}


def test_column_that_no_record_has(tmp_path: Path, write_jsonl: Any, rejected: Any) -> None:
    data = {"uris": [write_jsonl([{"promt": "a"}, {"other": 1}]).as_uri()], "columns": {"prompt": "prompt"}}
    assert rejected(66, data=data) == "the records have no column 'prompt'"
    assert not list((tmp_path / "output").glob("part-*"))


def test_more_error_records_than_there_may_be(write_jsonl: Any, job: Any, run_job: Any, rejected: Any) -> None:
    records = [{"prompt": "What is XSS?"}, {"prompt": None}, {"prompt": "What is CSRF?"}, {"prompt": None}]
    data = {"uris": [write_jsonl(records).as_uri()]}
    reported = rejected(65, data=data, maxErrorRate=0.4)
    assert reported.startswith("2 of 4 records have an error, and maxErrorRate is 0.4; one of them: ")
    assert run_job(job(data=data, ranks=1, maxErrorRate=0.5)).exit_codes == [0], "what was begun goes on"


def test_template_with_an_unknown_variable(question: dict[str, Any], rejected: Any) -> None:
    assert "'descripton' is undefined" in rejected(66, data=question | {"template": "Explain {{ descripton }}"})


def test_template_that_cannot_be_read(question: dict[str, Any], rejected: Any) -> None:
    assert "data.template" in rejected(64, data=question | {"template": "{% if %}"})


def test_template_may_not_reach_into_python(question: dict[str, Any], job: Any, run_job: Any, output_rows: Any) -> None:
    template = "{{ prompt.__class__.__mro__ }}"
    assert run_job(job(data=question | {"template": template}, ranks=1)).exit_codes == [0]
    errors = [row["error"] for row in output_rows()]
    assert len(errors) == 3
    assert all("unsafe" in error for error in errors)


def test_a_function_that_ends_the_process_fails_the_job(
    question: dict[str, Any], tmp_path: Path, rejected: Any
) -> None:
    (tmp_path / "mine.py").write_text("import sys\ndef ask(record):\n    sys.exit(0)\n")
    plugin = {"file": (tmp_path / "mine.py").as_uri(), "processing": "ask"}
    message = rejected(64, data=question, plugin=plugin)
    assert "mine.py:ask failed at " in message and message.endswith("SystemExit: 0 (line 3)")


def test_system_prompt_without_conversations(question: dict[str, Any], rejected: Any) -> None:
    assert "holds plain text" in rejected(64, data=question | {"systemPrompt": "be brief"})


def test_an_encoder(tmp_path: Path, model_folder: Path, question: dict[str, Any], rejected: Any) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "encoder"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    assert "a bert model sees the tokens" in rejected(64, data=question, model={"uri": folder.as_uri()})


def test_missing_input(tmp_path: Path, rejected: Any) -> None:
    assert "is not there" in rejected(66, data={"uris": [(tmp_path / "nothing.jsonl").as_uri()]})


def test_empty_input(write_jsonl: Any, rejected: Any) -> None:
    assert "no record" in rejected(65, data={"uris": [write_jsonl([]).as_uri()]})


def test_truncated_parquet(tmp_path: Path, rejected: Any) -> None:
    path = tmp_path / "input.parquet"
    pq.write_table(pa.table({"prompt": ["a"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path) in rejected(65, data={"uris": [path.as_uri()]})


def test_truncated_gzip(tmp_path: Path, rejected: Any) -> None:
    path = tmp_path / "input.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "a"}\n' * 1000, mtime=0)[:-30])
    assert "gzip data is cut off" in rejected(65, data={"uris": [path.as_uri()]})


def test_model_folder_without_weights(
    tmp_path: Path, model_folder: Path, question: dict[str, Any], rejected: Any
) -> None:
    shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    message = rejected(66, data=question, model={"uri": (tmp_path / "model").as_uri()})
    assert "holds no weights" in message


def test_model_whose_weights_are_of_another_shape(
    tmp_path: Path, model_folder: Path, question: dict[str, Any], rejected: Any
) -> None:
    copied = Path(shutil.copytree(model_folder, tmp_path / "model"))
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"intermediate_size": 192}))
    message = rejected(64, data=question, model={"uri": copied.as_uri()})
    assert "mlp.down_proj.weight is 32x64, config.json asks for 32x192" in message
    assert not list((tmp_path / "output").glob("part-*"))


def test_model_folder_without_tokenizer(
    tmp_path: Path, model_folder: Path, question: dict[str, Any], rejected: Any
) -> None:
    shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer*"))
    assert "tokenizer" in rejected(66, data=question, model={"uri": (tmp_path / "model").as_uri()})


def test_prompt_and_generation_longer_than_the_context(question: dict[str, Any], rejected: Any) -> None:
    message = rejected(64, data=question, generation={"maxNewTokens": 256})
    assert "maxNewTokens 256 leaves no token for a prompt in the model's context of 256 tokens" in message


def test_a_record_with_a_column_that_the_output_needs_is_an_error(
    stub_job: Any, write_jsonl: Any, output_rows: Any
) -> None:
    """Another name for the column is the remedy, and a job that has not finished takes it."""
    rows = [{"id": number, "prompt": "a"} for number in range(120)] + [{"id": 120, "prompt": "a", "error": "timeout"}]
    data = {"uris": [write_jsonl(rows, "alerts.jsonl").as_uri()]}
    stub_job(data=data, outputFormat={}).run_until_results()
    found = output_rows()
    assert all(row["generation"] for row in found[:120]) and "generation" not in found[120]
    assert "alerts.jsonl:121: the record has a column 'error'" in found[120]["error"]
    completion = stub_job(data=data, outputFormat={"errorColumn": "problem"}).run(attempt=1)
    assert completion.progress.failed_records == 0
    assert [row["id"] for row in output_rows()] == list(range(121))
    assert output_rows()[120]["error"] == "timeout" and output_rows()[120]["generation"]


def test_such_a_record_is_an_error_in_parquet_too(tmp_path: Path, stub_job: Any, write_jsonl: Any) -> None:
    data = {"uris": [write_jsonl([{"prompt": "a"}, {"prompt": "a", "generation": "mine"}]).as_uri()]}
    completion = stub_job(data=data, outputFormat={"format": "parquet"}).run()
    assert completion.progress.failed_records == 1
    [part] = (tmp_path / "output").glob("part-*.parquet")
    good, bad = pq.read_table(part).to_pylist()
    assert good["generation"] and good["error"] is None
    assert bad["generation"] is None and "column 'generation'" in bad["error"]


def test_a_column_that_the_output_needs_in_all_records_is_found_before_any_work(
    tmp_path: Path, stub_job: Any, write_jsonl: Any
) -> None:
    data = {"uris": [write_jsonl([{"prompt": "a", "generation": "b"}] * 3, "alerts.jsonl").as_uri()]}
    with pytest.raises(ConfigurationError, match=r"alerts\.jsonl:1: .* column 'generation'"):
        stub_job(data=data).run()
    assert not list((tmp_path / "output").glob("[!.]*"))


def test_a_null_in_a_template_is_an_error_and_no_word_of_python(
    stub_job: Any, write_jsonl: Any, output_rows: Any
) -> None:
    rows = [{"host": "a", "text": "x"}, {"host": None, "text": "y"}, {"text": "z"}]
    data = {"uris": [write_jsonl(rows).as_uri()], "template": "Host {{ host }} said {{ text }}"}
    stub_job(data=data).run()
    good, null, missing = output_rows()
    assert good["generation"]
    assert "input.jsonl:2: data.template: it writes a value that is null" in null["error"]
    assert "'host' is undefined" in missing["error"]


def test_a_template_may_say_what_stands_for_a_null(stub_job: Any, write_jsonl: Any, output_rows: Any) -> None:
    rows = [{"host": None, "text": "y"}]
    data = {"uris": [write_jsonl(rows).as_uri()], "template": "{{ host or 'nobody' }}{% if host is none %}!{% endif %}"}
    stub_job(data=data).run()
    assert output_rows()[0]["generation"].startswith("!")


def test_a_file_named_twice_is_read_once_with_a_note(
    tmp_path: Path, stub_job: Any, write_jsonl: Any, output_rows: Any, caplog: Any
) -> None:
    path = write_jsonl([{"prompt": "one"}, {"prompt": "two"}])
    stub_job(data={"uris": [path.as_uri(), f"file://{tmp_path}/*.jsonl"]}).run()
    assert [row["prompt"] for row in output_rows()] == ["one", "two"]
    assert f"{path} is named 2 times" in caplog.text


def test_a_template_that_writes_bos_does_not_make_it_two(
    stub_job: Any, stub_engine: Any, write_jsonl: Any, output_rows: Any, caplog: Any
) -> None:
    data = {"uris": [write_jsonl([{"q": "one"}, {"q": "two"}]).as_uri()], "template": "<s>{{ q }}"}
    stub_job(data=data, generation={"skipSpecialTokens": False}).run()
    assert [row["generation"].count("<s>") for row in output_rows()] == [1, 1]
    assert caplog.text.count("it is there once") == 1


def test_content_in_parts_of_text_is_the_text(stub_job: Any, write_jsonl: Any, output_rows: Any) -> None:
    parts: list[Any] = [
        [{"type": "text", "text": "What is"}, {"type": "text", "text": "XSS?"}],
        "What is\nXSS?",
        [{"type": "image_url", "image_url": "x"}],
    ]
    rows = [{"messages": [{"role": "user", "content": content}]} for content in parts]
    stub_job(data={"uris": [write_jsonl(rows).as_uri()]}).run()
    in_parts, as_text, image = output_rows()
    assert in_parts["generation"] == as_text["generation"]
    assert in_parts["messages"] == rows[0]["messages"]
    assert "has no text as role and content" in image["error"]


def test_output_folder_of_another_job(
    tmp_path: Path, question: dict[str, Any], rejected: Any, run_job: Any, job: Any
) -> None:
    assert run_job(job(data=question, ranks=1)).exit_codes == [0]
    before = {path: path.read_bytes() for path in (tmp_path / "output").iterdir()}
    message = rejected(64, name="another", data=question)
    assert "belongs to InferenceJob answers (uid-of-answers)" in message
    message = rejected(64, data=question, generation={"maxNewTokens": 5})
    assert "with another configuration" in message
    assert {path: path.read_bytes() for path in (tmp_path / "output").iterdir()} == before


def test_folder_with_files_of_nobody(tmp_path: Path, question: dict[str, Any], rejected: Any) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "thesis.txt").write_text("do not lose me")
    assert "thesis.txt" in rejected(64, data=question)
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["thesis.txt"]


def test_input_that_changes_between_two_attempts(
    tmp_path: Path, write_jsonl: Any, rejected: Any, job: Any, start_ranks: Any
) -> None:
    data = {"uris": [write_jsonl([{"prompt": "a"}] * 200).as_uri()]}
    options = {"data": data, "generation": {"maxNewTokens": 40}, "outputFormat": {"rowsPerFile": 2}}
    ranks = start_ranks(job(ranks=1, **options))
    ranks.wait_until(lambda: bool(list((tmp_path / "output" / "work").glob("part-*.json"))))
    ranks.kill()
    write_jsonl([{"prompt": "b"}] * 201)
    assert "the input has changed since the job began" in rejected(64, **options)


def test_input_that_changes_before_anything_is_done_is_the_new_one(
    write_jsonl: Any, job: Any, output_rows: Any
) -> None:
    data = {"uris": [write_jsonl([{"prompt": "a"}] * 3).as_uri()]}
    stopped = StubJob(job(ranks=1, data=data))
    stopped.stop.set()
    with pytest.raises(StoppedError):
        stopped.run()
    write_jsonl([{"prompt": "b"}] * 5)
    StubJob(job(ranks=1, data=data)).run()
    assert [row["prompt"] for row in output_rows()] == ["b"] * 5


def test_a_column_of_mixed_types_is_named_where_parquet_is_wanted(write_jsonl: Any, rejected: Any) -> None:
    records = [{"prompt": "a", "tags": ["x"]}, {"prompt": "b", "tags": "x"}]
    data = {"uris": [write_jsonl(records).as_uri()]}
    assert "column 'tags' holds values of types that do not go together" in rejected(
        65, data=data, outputFormat={"format": "parquet"}
    )


def test_output_that_cannot_be_written(tmp_path: Path, question: dict[str, Any], rejected: Any) -> None:
    (tmp_path / "file").write_text("not a folder")
    uri = (tmp_path / "file" / "output").as_uri()
    assert f"{uri} cannot be written" in rejected(64, data=question, output={"uri": uri})
