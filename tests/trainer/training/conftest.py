"""Jobs on real ranks: forked in milliseconds from one warm process that has imported the trainer."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")

from cwe2.database import Database

from zerotune_trainer.config import Launch, TrainConfig
from zerotune_trainer.errors import Failure
from zerotune_trainer.launching.forkserver import start_imports, start_rank
from zerotune_trainer.progress import Beat, Phase

sys.path.insert(0, str(Path(__file__).parent))

from training_rank import ENVIRONMENT_NAME, LOG_NAME, run_logged_rank

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SECONDS_A_JOB = 120


@dataclass
class Running:
    """A job whose ranks run: what they say arrives in `beats`."""

    processes: list[ForkServerProcess]
    pipes: list[Connection]
    log: Path
    log_start: int
    beats: list[Beat] = field(default_factory=list)

    def until(self, reached: Callable[[Beat], bool]) -> Beat:
        """Wait for a beat, of any rank."""
        for beat in self._hear():
            if reached(beat):
                return beat
        raise AssertionError("the job ended before what was waited for")

    def signal(self, number: int, ranks: list[int] | None = None) -> None:
        """Send a signal to some ranks, or to all of them."""
        for rank, process in enumerate(self.processes):
            if ranks is None or rank in ranks:
                assert process.pid is not None
                os.kill(process.pid, number)

    def end(self) -> Ended:
        """Wait until every rank has ended. When one fails the others are killed, as the launcher does."""
        for _ in self._hear():
            if any(process.exitcode not in (None, 0, 143) for process in self.processes):
                time.sleep(1)
                self.signal_the_living(signal.SIGKILL)
        for process in self.processes:
            process.join(30)
        failures = {beat.rank: beat.failure for beat in self.beats if beat.failure is not None}
        log = self.log.read_bytes()[self.log_start :].decode()
        return Ended([process.exitcode for process in self.processes], failures, self.beats, log)

    def signal_the_living(self, number: int) -> None:
        self.signal(number, [rank for rank, process in enumerate(self.processes) if process.exitcode is None])

    def _hear(self) -> Iterator[Beat]:
        deadline = time.monotonic() + _SECONDS_A_JOB
        while self.pipes:
            ready = wait(self.pipes, timeout=1)
            for pipe in ready:
                try:
                    beat = Beat.model_validate_json(pipe.recv_bytes())
                except EOFError:
                    self.pipes.remove(pipe)
                    continue
                self.beats.append(beat)
                yield beat
            if time.monotonic() > deadline:
                self.signal_the_living(signal.SIGKILL)
                raise AssertionError(f"the job did not end within {_SECONDS_A_JOB}s: {self.beats[-3:]}")


@dataclass
class Ended:
    """What came of a job."""

    exit_codes: list[int | None]
    failures: dict[int, Failure]
    beats: list[Beat]
    log: str

    @property
    def phases(self) -> list[Phase]:
        """The phases of rank 0, each once, in order."""
        return list(dict.fromkeys(beat.phase for beat in self.beats if beat.rank == 0))


@dataclass
class Job:
    """A FineTuneJob as its ranks get it. Change `config` and `deepspeed` as you like, then run it, again and again."""

    folder: Path
    config: dict[str, Any]
    deepspeed: dict[str, Any]
    hosts: str
    port: int | None = None
    """Where the ranks meet; a free port unless given."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the ranks."""

    @property
    def output(self) -> Path:
        return Path(self.config["output"]["uri"].removeprefix("file://"))

    @property
    def checkpoints(self) -> Path:
        return self.output / "checkpoints"

    def start(self, hostfile_of: dict[str, str] | None = None) -> Running:
        """Start every rank; `hostfile_of` gives a host a hostfile that differs from that of the others."""
        self.config["launch"]["masterPort"] = self.port or free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ENVIRONMENT_NAME).write_text(json.dumps(self.environment))
        log = self.folder / LOG_NAME
        log.touch()
        running = Running([], [], log, log.stat().st_size)
        for line in self.hosts.splitlines():
            host, slots = line.split(" slots=")
            folder = self._written(host, (hostfile_of or {}).get(host, self.hosts))
            for local_rank in range(int(slots)):
                process, pipe = start_rank(run_logged_rank, folder, host, local_rank)
                running.processes.append(process)
                running.pipes.append(pipe)
        return running

    def _written(self, host: str, hostfile: str) -> Path:
        folder = self.folder / host
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(TrainConfig.model_validate(self.config).model_dump_json(by_alias=True))
        (folder / "deepspeed.json").write_text(json.dumps(self.deepspeed))
        (folder / "hostfile").write_text(hostfile)
        return folder

    def run(self) -> Ended:
        return self.start().end()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]

    def losses(self) -> list[float]:
        return [record["loss"] for record in self.records() if "loss" in record]

    def results(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.output / "results.json").read_text())
        return loaded


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def warm_ranks() -> None:
    """Start importing what ranks need, once for all tests of this process: the others' too, which share it."""
    start_imports(["zerotune_trainer.infer", "zerotune_trainer.train"], Launch(cache_dir="/nowhere"))


@pytest.fixture(scope="session")
def descriptions() -> list[str]:
    """Texts of the CWE catalogue."""
    database = Database()
    return [database.get(number).description for number in range(74, 140) if _has(database, number)]


def _has(database: Any, number: int) -> bool:
    try:
        return bool(database.get(number).description)
    except Exception:  # noqa: BLE001 cwe2's own error for a number that has no weakness, which it does not export
        return False


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, warm_ranks: None, descriptions: list[str]) -> Path:
    """A Llama of two layers with a BPE of the descriptions."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(descriptions, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|eos|>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, descriptions: list[str]) -> Path:
    """A folder with `text.jsonl` and `answers.jsonl`, whose rows have very different lengths."""
    folder = tmp_path_factory.mktemp("corpus")
    _write(folder / "text.jsonl", [{"text": text} for text in descriptions])
    answers = [
        {"prompt": f"Describe {len(text)}:", "completion": f" {text[: 20 + 13 * (number % 17)]}"}
        for number, text in enumerate(descriptions)
    ]
    _write(folder / "answers.jsonl", answers)
    return folder


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_job(tmp_path: Path, model_folder: Path, corpus: Path, cache_dir: Path) -> Callable[..., Job]:
    """Make a cpt or sft job of six steps: two ranks on one host, ZeRO-2, fp32, unless told otherwise."""

    def make(name: str = "job", *, method: str = "cpt", stage: int = 2, hosts: str = "127.0.0.1 slots=2\n") -> Job:
        data = "text" if method == "cpt" else "answers"
        config = {
            "job": {"kind": "FineTuneJob", "name": name, "uid": f"uid-{name}"},
            "launch": {"cacheDir": str(cache_dir), "hangTimeoutSeconds": 60, "rendezvousTimeoutSeconds": 60},
            "model": {"uri": f"file://{model_folder}"},
            "output": {"uri": f"file://{tmp_path / name / 'output'}"},
            "method": method,
            "data": {"train": {"uris": [f"file://{corpus / data}.jsonl"]}, "validationFraction": 0.2, "maxLength": 128},
            "training": {
                "perDeviceTrainBatchSize": 2,
                "gradientAccumulationSteps": 1,
                "maxSteps": 6,
                "learningRate": 1e-2,
                "warmupSteps": 2,
            },
            "checkpoint": {"saveSteps": 2},
            "evaluation": {"evalStrategy": "steps", "evalSteps": 3},
        }
        return Job(tmp_path / name / "folder", config, deepspeed_settings(stage), hosts)

    return make


def deepspeed_settings(stage: int) -> dict[str, Any]:
    return {
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": stage,
            "stage3_gather_16bit_weights_on_model_save": True,
            "stage3_param_persistence_threshold": 0,
        },
    }
