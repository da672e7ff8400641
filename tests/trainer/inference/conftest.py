"""A tiny Llama with a BPE learnt from the CWE catalogue, and records from that catalogue."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", DS_ACCELERATOR="cpu")

import torch
from cwe2.database import Database
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from tests.trainer.inference.output_files import parts
from zerotune_devtools.harness import inference_ranks
from zerotune_devtools.harness.inference_ranks import Outcome, Ranks, write_folder
from zerotune_devtools.harness.stub_inference import Reports, StubEngine, StubJob
from zerotune_trainer import engines
from zerotune_trainer.config.sources import Model
from zerotune_trainer.data.tokenizer import load_tokenizer

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT = 256


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """A tiny model is faster with one; and torch's threads do not survive a fork."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def weaknesses() -> list[dict[str, Any]]:
    """Entries of the CWE catalogue: a numeric id, name, description."""
    numbers = [22, 59, 77, 78, 79, 89, 94, 119, 120, 125, 190, 200, 269, 287, 306, 311, 327, 352, 362, 400, 416, 434]
    entries = [dataclasses.asdict(Database().get(number)) for number in numbers]
    return [{"id": int(e["cwe_id"]), "name": e["name"], "description": e["description"]} for e in entries]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, weaknesses: list[dict[str, Any]]) -> Path:
    """A Hugging Face folder. The weights are random and large, so that greedy texts are long and all different."""
    folder = tmp_path_factory.mktemp("model")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator((entry["description"] for entry in weaknesses), trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(model_folder: Path) -> Any:
    return load_tokenizer(Model(uri=model_folder.as_uri()), model_folder)


@pytest.fixture
def model(model_folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)


@pytest.fixture
def job(tmp_path: Path, model_folder: Path) -> Callable[..., Path]:
    """Writes the folder of a job: `job(data={...}, ranks=2)`; the output goes to `tmp_path/output`."""

    return functools.partial(write_folder, tmp_path, model_folder)


@pytest.fixture
def start_ranks(warm_ranks: None) -> Iterator[Callable[[Path], Ranks]]:
    """Starts the ranks of a job's folder as a launcher does; kills what is left of them at the end."""
    started: list[Ranks] = []

    def start(folder: Path, **replica: int) -> Ranks:
        started.append(inference_ranks.start_ranks(folder, **replica))
        return started[-1]

    yield start
    for ranks in started:
        ranks.kill()


@pytest.fixture
def run_job(start_ranks: Callable[[Path], Ranks]) -> Callable[[Path], Outcome]:
    """Runs all ranks of a job's folder to their end."""
    return lambda folder: start_ranks(folder).end()


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of input: records, or lines as they are."""

    def write(rows: Sequence[dict[str, Any] | str], name: str = "input.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


@pytest.fixture
def output_rows(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Reads all rows of the output, in the order of its files."""

    def read() -> list[dict[str, Any]]:
        parts = sorted((tmp_path / "output").glob("part-*.jsonl"))
        return [json.loads(line) for part in parts for line in part.read_text().splitlines()]

    return read


@pytest.fixture
def rows_of(
    job: Callable[..., Path],
    run_job: Callable[[Path], Any],
    output_rows: Callable[[], list[dict[str, Any]]],
    tmp_path: Path,
) -> Callable[..., list[dict[str, Any]]]:
    """Runs a job that succeeds, `rows_of("zero", engine="zero")`: its rows, its output out of the next one's way."""

    def run(name: str, ranks: int = 2, **parts: Any) -> list[dict[str, Any]]:
        outcome = run_job(job(name=name, ranks=ranks, **parts))
        assert outcome.exit_codes == [0] * ranks, outcome.failure
        rows = output_rows()
        (tmp_path / "output").rename(tmp_path / f"output-of-{name}")
        return rows

    return run


@pytest.fixture
def files_of_three(weaknesses: list[dict[str, Any]], write_jsonl: Any) -> Callable[..., dict[str, Any]]:
    """Options of a job over 20 records, so many times, in files of 3; and how it generates."""

    def options(copies: int, **generation: Any) -> dict[str, Any]:
        rows = [entry | {"copy": copy} for copy in range(copies) for entry in weaknesses[:20]]
        data = {"uris": [write_jsonl(rows).as_uri()], "columns": {"prompt": "name"}}
        return {"data": data, "generation": generation, "outputFormat": {"rowsPerFile": 3}, "perDeviceBatchSize": 2}

    return options


@pytest.fixture
def undisturbed_output(tmp_path: Path, job: Any, run_job: Any) -> Callable[[dict[str, Any]], dict[str, bytes]]:
    """The output files of a job on one rank; the folder is empty again afterwards."""

    def run(options: dict[str, Any]) -> dict[str, bytes]:
        outcome = run_job(job(**options, ranks=1))
        assert outcome.exit_codes == [0], outcome.failure
        content = parts(tmp_path / "output")
        shutil.rmtree(tmp_path / "output")
        return content

    return run


@pytest.fixture
def watch_ranks() -> Iterator[Callable[[list[tuple[BaseProcess, Connection]]], Ranks]]:
    """Watches ranks that a test has started itself; kills what is left of them at the end."""
    watched: list[Ranks] = []

    def watch(started: list[tuple[BaseProcess, Connection]]) -> Ranks:
        watched.append(Ranks(started))
        return watched[-1]

    yield watch
    for ranks in watched:
        ranks.kill()


@pytest.fixture
def reporter() -> Reports:
    """Receives what ranks report, and keeps what they report of the result."""
    return Reports()


@pytest.fixture
def stub_engine(monkeypatch: pytest.MonkeyPatch) -> type[StubEngine]:
    """The stub takes the place of engine transformers, in this process and those forked from it."""
    engine = type("FreshStubEngine", (StubEngine,), {"batches": []})
    monkeypatch.setitem(engines.ENGINES, "transformers", engine)
    return engine


@pytest.fixture
def stub_job(tmp_path: Path, job: Any, stub_engine: Any, write_jsonl: Any) -> Callable[..., StubJob]:
    """Makes a job with the stub engine: `stub_job(records=20, outputFormat={...})`."""

    def make(records: int = 20, replicas: int = 1, **parts: Any) -> StubJob:
        if "data" not in parts:
            rows = [{"id": number, "prompt": f"weakness {number}"} for number in range(records)]
            parts["data"] = {"uris": [write_jsonl(rows).as_uri()]}
        folder = job(**({"outputFormat": {"rowsPerFile": 3}} | parts), ranks=1, replicas=replicas)
        return StubJob(folder, replicas=replicas)

    return make


@pytest.fixture
def rows_here(job: Any, write_jsonl: Any, output_rows: Any) -> Callable[..., list[dict[str, Any]]]:
    """The rows of a job of one rank, which runs in this process: `rows_here(task, records, data, **parts)`."""

    def run(task: str, records: list[dict[str, Any]], data: dict[str, Any], **parts: Any) -> list[dict[str, Any]]:
        if "uris" not in data:
            data = data | {"uris": [write_jsonl(records).as_uri()]}
        StubJob(job(ranks=1, task=task, data=data, perDeviceBatchSize=3, **parts)).run()
        found: list[dict[str, Any]] = output_rows()
        return found

    return run
