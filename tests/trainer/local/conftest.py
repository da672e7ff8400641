"""A tiny Llama and a little of the CWE catalogue, and `zerotune` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import torch
from cwe2.database import Database
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder

WEAKNESSES = (20, 22, 77, 78, 79, 89, 119, 125, 190, 352, 416, 476, 502, 787, 862)


def weakness_texts() -> list[str]:
    database = Database()
    entries = (database.get(number) for number in WEAKNESSES)
    return [f"{entry.name}. {entry.description} {entry.extended_description}" for entry in entries]


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model/`, `train.jsonl` and `questions.jsonl`."""
    folder = tmp_path_factory.mktemp("material")
    texts = weakness_texts()
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    questions = [{"id": number, "prompt": f"CWE-{number} is"} for number in WEAKNESSES]
    (folder / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=["<s>", "</s>", "<pad>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder / "model")
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=512, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, **shape)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    return folder


@dataclass
class Run:
    """A `zerotune run` at work."""

    process: psutil.Popen
    folder: JobFolder
    output: Path

    @property
    def status(self) -> JobStatus:
        return self.folder.read_status()

    def wait_until(self, condition: Callable[[JobStatus], bool], seconds: float = 120) -> JobStatus:
        deadline = time.monotonic() + seconds
        while not condition(self.status):
            assert self.process.is_running() and self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.1)
        return self.status

    def end(self, seconds: float = 200) -> tuple[int, str]:
        """Exit code, and what it printed."""
        return self.process.wait(seconds), self.output.read_text()

    def launchers(self) -> list[psutil.Process]:
        return [child for child in self.process.children() if "zerotune-launch" in " ".join(child.cmdline())]


@dataclass
class Workplace:
    """A home of local jobs, and the command line."""

    home: Home
    folder: Path
    runs: list[Run] = field(default_factory=list)

    def start(self, manifest: Path, name: str, kind: str = "FineTuneJob") -> Run:
        output = self.folder / f"run-{len(self.runs)}.txt"
        with output.open("w") as file:
            process = psutil.Popen(
                [_zerotune(), "run", str(manifest)], stdout=file, stderr=file, env=self._environment()
            )
        run = Run(process, self.home.job(kind, name), output)
        self.runs.append(run)
        return run

    def zerotune(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what it printed."""
        done = self.finished(*arguments)
        return done.returncode, done.stdout + done.stderr

    def finished(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, once it has ended."""
        return subprocess.run(
            [_zerotune(), *arguments], capture_output=True, text=True, check=False, env=self._environment()
        )

    def _environment(self) -> dict[str, str]:
        settings = {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "200"}
        return os.environ | settings | {"ZEROTUNE_HOME": str(self.home.path)}


def _zerotune() -> str:
    return str(Path(sys.executable).with_name("zerotune"))


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(Home(tmp_path / "home"), tmp_path)
    yield place
    for run in place.runs:
        if run.process.poll() is None:
            run.process.kill()
