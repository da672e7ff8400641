"""Generation whose time is that of its matrix products: 29.5 million parameters, prompts and answers of mixed length.

The lengths of prompts are drawn from a lognormal distribution, as those of records of a log or a catalogue are. An
answer ends at one of many end tokens, as likely at any place, or at the limit.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerotune_devtools.benchmarks.step_workload import SHAPE
from zerotune_devtools.benchmarks.words import BOS, EOS, FIRST_WORD, write_tokenizer
from zerotune_devtools.benchmarks.workload import BIN, RANKS, Run
from zerotune_devtools.checkout import ROOT
from zerotune_operator.api.jobs import InferenceJob
from zerotune_operator.plan import RuntimeLayout, plan_job
from zerotune_trainer.config import RENDEZVOUS_FILE, JobIdentity
from zerotune_trainer.sizing.shape import read_shape

SHORTEST, MEDIAN, LONGEST, SIGMA = 8, 64, 512, 1.0
"""Tokens of prompts, and the standard deviation of their logarithms."""
PORT, PROGRESS_PORT = 29631, 29632
NEW_TOKENS, BATCH, END_TOKENS = 64, 8, 64
_SPREAD = 0.1
"""Standard deviation of the weights: with that of a model before training every answer is one word again and again."""


@dataclass(frozen=True)
class GenerationWorkload:
    """So many records to generate for, greedily."""

    work: Path
    """Absolute. Everything is written below it."""
    records: int

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.work / "generation-model"

    @property
    def prompts(self) -> Path:
        """The records."""
        return self.work / "prompts.jsonl"

    @property
    def end_tokens(self) -> list[int]:
        """What ends an answer besides the model's own end token."""
        size = SHAPE["vocab_size"]
        return list(range(FIRST_WORD, size, size // END_TOKENS))

    def prepare(self) -> None:
        """Write model and records."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        write_tokenizer(self.model, SHAPE["vocab_size"])
        torch.manual_seed(0)
        sizes = {name: value for name, value in SHAPE.items() if name != "model_type"}
        sizes |= {"max_position_embeddings": LONGEST + NEW_TOKENS, "initializer_range": _SPREAD}
        LlamaForCausalLM(LlamaConfig(**sizes, bos_token_id=BOS, eos_token_id=EOS)).save_pretrained(self.model)
        draw = random.Random(0)  # noqa: S311 (nobody's secret)
        self.prompts.write_text("".join(json.dumps({"prompt": _prompt(draw)}) + "\n" for _ in range(self.records)))

    def part(self, number: int, parts: int) -> GenerationWorkload:
        """A workload of its own of every so-manieth record, with the same model."""
        work = self.work / f"part-{number}-of-{parts}"
        work.mkdir(exist_ok=True)
        (work / self.model.name).symlink_to(self.model)
        lines = self.prompts.read_text().splitlines(keepends=True)[number::parts]
        (work / self.prompts.name).write_text("".join(lines))
        return GenerationWorkload(work, len(lines))

    def ours(self, engine: str, ranks: int = RANKS, port: int = PORT) -> Run:
        """`zerotune-launch FOLDER`."""
        output = self.work / f"{engine}-{ranks}"
        folder = output.with_name(f"{output.name}-folder")
        folder.mkdir()
        shape = read_shape(json.loads((self.model / "config.json").read_bytes()))
        identity = JobIdentity(kind="InferenceJob", name="bench", uid=folder.name)
        plan = plan_job(self._job(engine, ranks, output), shape, self._layout(output, port), identity)
        for name, text in plan.artifacts().items():
            (folder / name).write_text(text)
        (folder / RENDEZVOUS_FILE).write_text("known to this benchmark's ranks")
        return Run([str(BIN / "zerotune-launch"), str(folder), "--host", "127.0.0.1"], output)

    def baseline(self) -> Run:
        """`model.generate` in processes that torchrun starts, each for every other batch."""
        output = self.work / "plain"
        options = {"model": self.model, "prompts": self.prompts, "output": output, "batch": BATCH}
        options["new-tokens"] = NEW_TOKENS
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        script = str(ROOT / "benchmarks" / "baseline" / "plain_generate.py")
        launch = [str(BIN / "torchrun"), "--nproc-per-node", str(RANKS), "--master-port", str(PORT), script]
        return Run([*launch, *flags, "--end-tokens", *map(str, self.end_tokens)], output)

    def _job(self, engine: str, ranks: int, output: Path) -> InferenceJob:
        spec: dict[str, Any] = {
            "model": {"uri": self.model.as_uri()},
            "engine": engine,
            "precision": "fp32",
            "data": {"uris": [self.prompts.as_uri()]},
            "generation": {"maxNewTokens": NEW_TOKENS, "eosTokenIds": self.end_tokens},
            "perDeviceBatchSize": BATCH,
            "topology": {"processesPerNode": ranks},
            "output": {"uri": output.as_uri()},
            "backend": {"local": {}},
        }
        if engine == "deepspeed":
            spec["parallelism"] = {"tensor": ranks}
        head = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "InferenceJob", "metadata": {"name": "bench"}}
        return InferenceJob.model_validate(head | {"spec": spec})

    def _layout(self, output: Path, port: int) -> RuntimeLayout:
        return RuntimeLayout(
            hosts=("127.0.0.1",),
            resolve=str,
            model_uri=self.model.as_uri(),
            output_uri=output.as_uri(),
            checkpoint_uri="",
            cache_dir=str(self.work / "cache"),
            offload_dir=str(self.work / "offloaded"),
            master_port=port,
            progress_port=port + PROGRESS_PORT - PORT,
        )


def _prompt(draw: random.Random) -> str:
    length = min(max(round(MEDIAN * draw.lognormvariate(0, SIGMA)), SHORTEST), LONGEST)
    return " ".join(f"w{draw.randrange(FIRST_WORD, SHAPE['vocab_size'])}" for _ in range(length))
