"""Launchers as processes: toys (see `toy_launcher.py`) and real ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from zerotune_trainer.config import RENDEZVOUS_FILE, TrainConfig
from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import Completion, NodeProgress

_TOY = Path(__file__).with_name("toy_launcher.py")
_COMMAND = Path(sys.executable).with_name("zerotune-launch")


@dataclass
class Node:
    """A running launcher."""

    process: subprocess.Popen[bytes]
    host: str
    port: int
    log_file: Path
    termination_log: Path
    temporary: Path
    """Where it and all below it put what is temporary."""
    seen: dict[int, psutil.Process] = field(default_factory=dict)
    """Every process seen below it, by pid."""

    def progress(self) -> NodeProgress | None:
        """The answer of `/progress`; None where nobody answers."""
        self.note_processes()
        try:
            return NodeProgress.model_validate_json(self.get("/progress"))
        except OSError:
            return None

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.host}:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def until(self, reached: Callable[[NodeProgress], bool], seconds: float = 90) -> NodeProgress:
        """Wait until there are ranks and `/progress` says so."""
        return self.until_served(lambda progress: bool(progress.ranks) and reached(progress), seconds)

    def until_served(self, reached: Callable[[NodeProgress], bool], seconds: float = 90) -> NodeProgress:
        """Wait until `/progress` says so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            progress = self.progress()
            if progress is not None and reached(progress):
                return progress
            time.sleep(0.05)
        raise AssertionError(f"not reached within {seconds}s, exit code {self.process.poll()}:\n{self.log}")

    def until_logged(self, text: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{self.log}"
            time.sleep(0.05)

    def end(self, seconds: float = 60) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.note_processes()
            if time.monotonic() > deadline:
                raise AssertionError(f"did not end within {seconds}s:\n{self.log}")
            time.sleep(0.05)
        return self.process.returncode

    def rank_pid(self, rank: int) -> int:
        progress = self.until(lambda node: any(entry.rank == rank for entry in node.ranks))
        pid = next(entry.pid for entry in progress.ranks if entry.rank == rank)
        assert pid is not None
        return pid

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def failure(self) -> Failure | None:
        """The failure that the termination log holds."""
        message = self._termination_message()
        return Failure.model_validate(message) if message and "completion" not in message else None

    @property
    def completion(self) -> Completion | None:
        """The completion that the termination log holds."""
        message = self._termination_message()
        return Completion.model_validate(message["completion"]) if message and "completion" in message else None

    def _termination_message(self) -> dict[str, Any] | None:
        text = self.termination_log.read_text()
        return dict(json.loads(text)) if text else None

    def note_processes(self) -> None:
        try:
            self.seen |= {child.pid: child for child in psutil.Process(self.process.pid).children(recursive=True)}
        except psutil.NoSuchProcess:
            return

    @property
    def temporary_files(self) -> list[Path]:
        """What is still there of its temporary files."""
        return list(self.temporary.rglob("*"))

    def left_behind(self, seconds: float = 10) -> list[psutil.Process]:
        """Processes that were below it and are still there after a moment."""
        deadline = time.monotonic() + seconds
        while (alive := [process for process in self.seen.values() if _runs(process)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Job:
    """A job's folder. Change `config` as you like before starting launchers."""

    folder: Path
    config: dict[str, Any]
    hosts: dict[str, int]
    nodes: list[Node] = field(default_factory=list)

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(TrainConfig.model_validate(self.config).model_dump_json(by_alias=True))
        (self.folder / "deepspeed.json").write_text(
            json.dumps({"zero_allow_untested_optimizer": True, "zero_optimization": {"stage": 2}})
        )
        (self.folder / RENDEZVOUS_FILE).write_text("a secret of this job")
        (self.folder / "hostfile").write_text("".join(f"{name} slots={slots}\n" for name, slots in self.hosts.items()))

    def start_toys(self, toy: str) -> list[Node]:
        """Start a launcher a host whose ranks are toys."""
        self.write()
        (self.folder / "toy").write_text(toy)
        return [self.start_toy(name) for name in self.hosts]

    def start_toy(self, host: str) -> Node:
        return self._start([sys.executable, str(_TOY), str(self.folder), host, str(self._termination_log(host))], host)

    def start_real(self) -> list[Node]:
        """Start `zerotune-launch` for every host."""
        self.write()
        return [self.launch(name) for name in self.hosts]

    def launch(self, host: str, *options: str) -> Node:
        log = ["--termination-log", str(self._termination_log(host))]
        return self._start([str(_COMMAND), str(self.folder), "--host", host, *log, *options], host)

    def _termination_log(self, host: str) -> Path:
        return self.folder.parent / f"{host}.termination.json"

    def _start(self, command: list[str], host: str) -> Node:
        log_file = self.folder.parent / f"{host}.log"
        # Short: the path of a socket has at most 107 characters.
        temporary = Path(mkdtemp(prefix="zt-"))
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)}
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        port = self.config["launch"]["progressPort"]
        node = Node(process, host, port, log_file, self._termination_log(host), temporary)
        self.nodes.append(node)
        return node


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer over bytes, written without torch, whose import would cost more than a test."""
    folder = tmp_path_factory.mktemp("model")
    special = ["<|pad|>", "<|eos|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": special[0], "eos_token": special[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": len(tokens), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    described = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_key_value_heads": 2, **shape, **ids}
    (folder / "config.json").write_text(json.dumps(described))
    save_file(_llama_weights(len(tokens), 16, 32), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _llama_weights(vocabulary: int, hidden: int, inner: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    layer = {f"self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"}
    layer |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    shapes = {f"model.layers.0.{name}": shape for name, shape in layer.items()}
    shapes |= {"model.embed_tokens": (vocabulary, hidden), "lm_head": (vocabulary, hidden)}
    norms = ["model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"]
    weights = {name: random.normal(0, 0.02, shape) for name, shape in shapes.items()} | {
        n: np.ones(hidden) for n in norms
    }
    return {f"{name}.weight": values.astype(np.float32) for name, values in weights.items()}


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Make a job; its launchers are ended, with all below them, after the test."""
    jobs: list[Job] = []

    def make(hosts: dict[str, int] | None = None, **launch: Any) -> Job:
        ports = {"masterPort": free_port(), "progressPort": free_port()}
        config = {
            "job": {"kind": "FineTuneJob", "name": "job", "uid": "uid"},
            "launch": {"cacheDir": str(tmp_path / "cache"), "hangTimeoutSeconds": 60, **ports, **launch},
            "model": {"uri": "file:///nowhere/model"},
            "output": {"uri": f"file://{tmp_path / 'output'}"},
            "method": "cpt",
            "data": {"train": {"uris": ["file:///nowhere/data.jsonl"]}},
            "training": {},
            "checkpoint": {},
            "evaluation": {},
        }
        jobs.append(Job(tmp_path / "folder", config, hosts or {"127.0.0.1": 1}))
        return jobs[-1]

    yield make
    for node in (node for job in jobs for node in job.nodes):
        node.note_processes()
        for process in (*node.seen.values(), node.process):
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        node.process.wait()
        shutil.rmtree(node.temporary)
