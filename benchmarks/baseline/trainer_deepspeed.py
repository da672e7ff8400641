"""Continued pre-training as one would write it with transformers and DeepSpeed; started by torchrun."""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
)

from zerotune_devtools.compiled.shm_comm import load_shm_comm


class FirstStep(TrainerCallback):
    """Leaves a file when the first optimizer step is done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Once, on rank 0."""
        if state.global_step == 1 and state.is_world_process_zero:
            self.path.touch()


def main() -> None:
    """Tokenize, pack, train, save."""
    parser = argparse.ArgumentParser()
    for name in ("method", "model", "data", "output", "deepspeed"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("steps", "logging-steps", "batch", "length"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    load_shm_comm()
    arguments = TrainingArguments(
        output_dir=options.output,
        deepspeed=options.deepspeed,
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=options.batch,
        max_steps=options.steps,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        logging_steps=options.logging_steps,
        save_strategy="no",
        report_to="none",
    )
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model)

    def tokenize(records: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[*ids, tokenizer.eos_token_id] for ids in tokenizer(records["text"])["input_ids"]]}

    def pack(records: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        ids = list(chain.from_iterable(records["input_ids"]))
        whole = len(ids) // options.length * options.length
        blocks = [ids[start : start + options.length] for start in range(0, whole, options.length)]
        return {"input_ids": blocks, "labels": blocks}

    with arguments.main_process_first():
        records = load_dataset("json", data_files=options.data, split="train")
        tokens = records.map(tokenize, batched=True, remove_columns=records.column_names)
        blocks = tokens.map(pack, batched=True)

    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=blocks,
        data_collator=default_data_collator,
        processing_class=tokenizer,
        callbacks=[FirstStep(Path(options.output) / "first-step")],
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
