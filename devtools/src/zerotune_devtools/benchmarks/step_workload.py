"""A training step whose time is that of its matrix products: 29.5 million parameters, 512 tokens a row, two ranks.

The head makes 8% of the arithmetic. All sides get the same rows of tokens, in the order of transformers' sampler.
"""

from __future__ import annotations

import json
import random
import secrets
from pathlib import Path
from typing import Any, Literal, NamedTuple

from zerotune_devtools.benchmarks.workload import BIN, PORT, PROGRESS_PORT, RANKS, Run
from zerotune_devtools.checkout import ROOT
from zerotune_operator.api.jobs import FineTuneJob
from zerotune_operator.plan import RuntimeLayout, plan_job
from zerotune_trainer.config import RENDEZVOUS_FILE, JobIdentity
from zerotune_trainer.sizing.shape import read_shape

LENGTH = 512
VOCABULARY = 4096
LEARNING_RATE = 1e-4
SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": LENGTH,
}
SIDES = {"bare loop": "bare_loop.py", "Trainer": "plain_trainer.py", "SFTTrainer": "sft_rows.py"}
"""Scripts of `benchmarks/baseline`, started by torchrun."""


class StepTraining(NamedTuple):
    """What all sides of a comparison train."""

    method: Literal["sft", "dpo", "orpo", "kto"] = "sft"
    rows: str = "rows.jsonl"
    """The file of its rows, in the folder of the runs."""
    batch: int = 1
    """Rows of a rank in a step."""
    order: Literal["random", "sequential"] = "random"
    """In which the rows are taken: transformers' `train_sampling_strategy`."""


TOKENS = StepTraining()


def prepare(work: Path, steps: int) -> None:
    """Make the model, and rows of random tokens."""
    make_model(work)
    draw = random.Random(0)  # noqa: S311 (nobody's secret)
    rows = ([draw.randrange(3, 1000) for _ in range(LENGTH)] for _ in range(RANKS * steps))
    text = "".join(json.dumps({"input_ids": row, "labels": row}) + "\n" for row in rows)
    (work / TOKENS.rows).write_text(text)


def make_model(work: Path) -> None:
    """Make the model, with random weights and the quick start's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {name: value for name, value in SHAPE.items() if name != "model_type"}
    LlamaForCausalLM(LlamaConfig(**sizes, pad_token_id=0, bos_token_id=1, eos_token_id=2)).save_pretrained(
        work / "step-model"
    )
    AutoTokenizer.from_pretrained(work / "model").save_pretrained(work / "step-model")


def ours(work: Path, steps: int, number: int, training: StepTraining = TOKENS) -> Run:
    """`zerotune-launch FOLDER`."""
    output = work / f"ours-{training.method}-{number}"
    folder = _write_folder(work, steps, output, training)
    return Run([str(BIN / "zerotune-launch"), str(folder), "--host", "127.0.0.1"], output)


def baseline(work: Path, steps: int, number: int, script: str, training: StepTraining = TOKENS) -> Run:
    """`torchrun` with a script of `benchmarks/baseline`, and the very `deepspeed.json` that ours gets."""
    output = work / f"{Path(script).stem}-{training.method}-{number}"
    settings = _write_folder(work, steps, output, training) / "deepspeed.json"
    launch = [str(BIN / "torchrun"), "--nproc-per-node", str(RANKS), "--master-port", str(PORT)]
    options = {
        "model": work / "step-model",
        "method": training.method,
        "rows": work / training.rows,
        "batch": training.batch,
        "output": output,
        "deepspeed": settings,
        "steps": steps,
        "learning-rate": LEARNING_RATE,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return Run([*launch, str(ROOT / "benchmarks" / "baseline" / script), *flags], output)


def _write_folder(work: Path, steps: int, output: Path, training: StepTraining) -> Path:
    folder = output.with_name(f"{output.name}-folder")
    folder.mkdir(parents=True)
    identity = JobIdentity(kind="FineTuneJob", name="bench", uid=folder.name)
    config = json.loads((work / "step-model" / "config.json").read_bytes())
    plan = plan_job(_job(work, steps, output, training), read_shape(config), _layout(work, output), identity)
    for name, text in plan.artifacts().items():
        (folder / name).write_text(text)
    secret = folder / RENDEZVOUS_FILE
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32))
    return folder


def _job(work: Path, steps: int, output: Path, training: StepTraining) -> FineTuneJob:
    spec: dict[str, Any] = {
        "method": training.method,
        "model": {"uri": (work / "step-model").as_uri()},
        "data": {"train": {"uris": [(work / training.rows).as_uri()]}, "maxLength": LENGTH, "packing": "none"},
        "training": {
            "perDeviceTrainBatchSize": training.batch,
            "maxSteps": steps,
            "learningRate": LEARNING_RATE,
            "lrSchedulerType": "constant",
            "loggingSteps": max(1, steps // 4),
            "arguments": {"train_sampling_strategy": training.order},
        },
        "zero": {"stage": 2},
        "topology": {"nodes": 1, "processesPerNode": RANKS},
        "checkpoint": {"saveStrategy": "no"},
        "evaluation": {"evalStrategy": "no"},
        "output": {"uri": output.as_uri()},
        "backend": {"local": {}},
    }
    return FineTuneJob.model_validate(
        {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "bench"}, "spec": spec}
    )


def _layout(work: Path, output: Path) -> RuntimeLayout:
    return RuntimeLayout(
        hosts=("127.0.0.1",),
        resolve=str,
        model_uri=(work / "step-model").as_uri(),
        output_uri=output.as_uri(),
        checkpoint_uri=f"{output.as_uri()}/checkpoints",
        cache_dir=str(work / "cache"),
        offload_dir=str(work / "offloaded"),
        master_port=PORT,
        progress_port=PROGRESS_PORT,
    )
