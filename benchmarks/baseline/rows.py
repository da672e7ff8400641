"""What the baselines of a step share: options, arguments and rows."""

from __future__ import annotations

import argparse
from typing import Any

from datasets import Dataset, load_dataset

from zerotune_devtools.compiled.shm_comm import load_shm_comm


def read_options() -> argparse.Namespace:
    """The command line; then DeepSpeed can compute."""
    load_shm_comm()
    parser = argparse.ArgumentParser()
    for name in ("method", "model", "rows", "output", "deepspeed"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    return parser.parse_args()


def read_rows(options: argparse.Namespace) -> Dataset:
    """The rows of the file."""
    return load_dataset("json", data_files=options.rows, split="train")


def training_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """As the job of the other side has them."""
    return {
        "output_dir": options.output,
        "deepspeed": options.deepspeed,
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": options.batch,
        "max_steps": options.steps,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "logging_steps": max(1, options.steps // 4),
        "save_strategy": "no",
        "report_to": "none",
    }
