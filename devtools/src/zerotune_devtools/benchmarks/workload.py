"""What both sides of a benchmark train: the quick start's data and model, on two ranks of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zerotune_devtools.checkout import ROOT
from zerotune_devtools.compiled.shm_comm import keep_shm_comm
from zerotune_operator.api.jobs import FineTuneJob
from zerotune_operator.plan import RuntimeLayout, plan_job
from zerotune_trainer.config import RENDEZVOUS_FILE, JobIdentity
from zerotune_trainer.sizing.shape import read_shape

BIN = Path(sys.executable).parent
RANKS = 2
LENGTH = 256
MICRO_BATCH = 4
ZERO_STAGE = 2
PORT, PROGRESS_PORT = 29611, 29612


@dataclass(frozen=True)
class Workload:
    """A training run of `steps` optimizer steps."""

    method: Literal["cpt", "sft"]
    steps: int
    logging_steps: int
    work: Path
    """Absolute. Holds `data` and `model` as the quick start makes them; runs write below it."""

    @property
    def data(self) -> Path:
        """The training records."""
        return self.work / "data" / f"{self.method}-train.jsonl"

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.work / "model"


@dataclass(frozen=True)
class Run:
    """One side's command. It writes into `output`, which is empty before."""

    command: list[str]
    output: Path

    @property
    def log(self) -> Path:
        """What the command writes to its outputs."""
        return self.output.with_name(f"{self.output.name}.log")


def prepare_work(work: Path) -> Path:
    """Make data and model in `work`, and what baselines compute with, unless they are there; its absolute path."""
    script = ROOT / "examples" / "quickstart" / "prepare.py"
    subprocess.run([sys.executable, script, work], check=True, env=environment(work))
    keep_shm_comm()
    return work.absolute()


def environment(work: Path) -> dict[str, str]:
    """What both sides run under: one thread a rank, nothing fetched."""
    settings = {
        "DS_ACCELERATOR": "cpu",
        "HF_DATASETS_CACHE": str(work.absolute() / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    return os.environ | settings


def ours(workload: Workload, number: int) -> Run:
    """`zerotune-launch FOLDER`: one node, two ranks."""
    output = workload.work / f"{workload.method}-ours-{number}"
    folder = _write_folder(workload, output)
    return Run([str(BIN / "zerotune-launch"), str(folder), "--host", "127.0.0.1"], output)


def baseline(workload: Workload, script: str, number: int) -> Run:
    """`torchrun` with a script of `benchmarks/baseline/` and the very `deepspeed.json` that ours gets."""
    output = workload.work / f"{workload.method}-baseline-{number}"
    settings = _write_folder(workload, output) / "deepspeed.json"
    launch = [str(BIN / "torchrun"), "--nproc-per-node", str(RANKS), "--master-port", str(PORT)]
    options: dict[str, Any] = {
        "method": workload.method,
        "model": workload.model,
        "data": workload.data,
        "output": output,
        "deepspeed": settings,
        "steps": workload.steps,
        "logging-steps": workload.logging_steps,
        "batch": MICRO_BATCH,
        "length": LENGTH,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return Run([*launch, str(ROOT / "benchmarks" / "baseline" / script), *flags], output)


PROBE = Path(__file__).with_name("probe")
"""Folder of the module that notes every step, for PYTHONPATH."""


def start(run: Run, work: Path, *, probe: bool = False) -> tuple[subprocess.Popen[bytes], float]:
    """Start a run; returns the process and the time of day just before.

    Args:
        run: The command.
        work: Folder that holds what the runs share.
        probe: Whether every step is noted, into the folder beside the output.
    """
    run.output.mkdir()
    variables = environment(work)
    if probe:
        noted = run.output.with_name(f"{run.output.name}-probe")
        noted.mkdir()
        variables |= {"STEP_PROBE": str(noted), "PYTHONPATH": str(PROBE)}
    with run.log.open("wb") as log:
        began = time.time()
        return subprocess.Popen(run.command, stdout=log, stderr=log, env=variables), began


def finish(run: Run, process: subprocess.Popen[bytes]) -> None:
    """Wait for a run; one that fails ends the benchmark with its last lines."""
    if process.wait():
        lines = run.log.read_text(errors="replace").splitlines()
        sys.exit("\n".join([*lines[-30:], f"exit code {process.returncode}: {' '.join(run.command)}"]))


def _write_folder(workload: Workload, output: Path) -> Path:
    folder = output.with_name(f"{output.name}-folder")
    folder.mkdir(parents=True)
    config = json.loads((workload.model / "config.json").read_bytes())
    identity = JobIdentity(kind="FineTuneJob", name="bench", uid=folder.name)
    plan = plan_job(_job(workload, output), read_shape(config), _layout(workload, output), identity)
    for name, text in plan.artifacts().items():
        (folder / name).write_text(text)
    (folder / RENDEZVOUS_FILE).write_text("known to this benchmark's ranks")
    return folder


def _job(workload: Workload, output: Path) -> FineTuneJob:
    data: dict[str, Any] = {"train": {"uris": [workload.data.as_uri()]}, "maxLength": LENGTH}
    answers = {"columns": {"messages": "messages"}, "loss": "assistant", "packing": "bfd_split"}
    texts = {"columns": {"text": "text"}, "packing": "wrapped"}
    spec: dict[str, Any] = {
        "method": workload.method,
        "model": {"uri": workload.model.as_uri()},
        "data": data | (answers if workload.method == "sft" else texts),
        "training": {
            "perDeviceTrainBatchSize": MICRO_BATCH,
            "maxSteps": workload.steps,
            "learningRate": 1e-3,
            "loggingSteps": workload.logging_steps,
        },
        "zero": {"stage": ZERO_STAGE},
        "topology": {"nodes": 1, "processesPerNode": RANKS},
        "checkpoint": {"saveStrategy": "no"},
        "evaluation": {"evalStrategy": "no"},
        "output": {"uri": output.as_uri()},
        "backend": {"local": {}},
    }
    metadata = {"name": "bench"}
    return FineTuneJob.model_validate(
        {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}
    )


def _layout(workload: Workload, output: Path) -> RuntimeLayout:
    return RuntimeLayout(
        hosts=("127.0.0.1",),
        resolve=str,
        model_uri=workload.model.as_uri(),
        output_uri=output.as_uri(),
        checkpoint_uri=f"{output.as_uri()}/checkpoints",
        cache_dir=str(workload.work / "cache"),
        offload_dir=str(workload.work / "offloaded"),
        master_port=PORT,
        progress_port=PROGRESS_PORT,
    )
