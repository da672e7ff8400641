"""Training as one would write it with TRL's SFTTrainer and DeepSpeed; started by torchrun."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

METHODS: dict[str, dict[str, Any]] = {
    "cpt": {"packing_strategy": "wrapped", "dataset_text_field": "text"},
    "sft": {"packing_strategy": "bfd_split", "assistant_only_loss": True},
}


class TokenLog(TrainerCallback):
    """Notes when how many tokens were done, a JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """`num_tokens` is TRL's own count, over all ranks, padding excluded."""
        if logs and "loss" in logs and state.is_world_process_zero:
            record = {"step": state.global_step, "tokens": logs["num_tokens"], "seconds": time.monotonic()}
            with self.path.open("a") as lines:
                lines.write(json.dumps(record) + "\n")


def main() -> None:
    """Train and save; TRL tokenizes and packs."""
    parser = argparse.ArgumentParser()
    for name in ("method", "model", "data", "output", "deepspeed"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("steps", "logging-steps", "batch", "length"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()

    arguments = SFTConfig(
        output_dir=options.output,
        deepspeed=options.deepspeed,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=options.batch,
        max_length=options.length,
        packing=True,
        max_steps=options.steps,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        logging_steps=options.logging_steps,
        save_strategy="no",
        report_to="none",
        model_init_kwargs={"dtype": "float32"},
        **METHODS[options.method],
    )
    trainer = SFTTrainer(
        model=options.model,
        args=arguments,
        train_dataset=load_dataset("json", data_files=options.data, split="train"),
        callbacks=[TokenLog(Path(options.output) / "tokens.jsonl")],
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
