"""Steps with DeepSpeed's engine alone, which nothing that trains with it can be faster than; started by torchrun.

Batches come in the order of transformers' Trainer, which is asked for its loader and for no more.
"""

from __future__ import annotations

import json
from pathlib import Path

import deepspeed
import torch
from rows import read_options, read_rows, training_arguments
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, default_data_collator


def main() -> None:
    """Train."""
    options = read_options()
    settings = json.loads(Path(options.deepspeed).read_text())
    arguments = TrainingArguments(**training_arguments(options))
    model = AutoModelForCausalLM.from_pretrained(options.model).train()
    trainer = Trainer(
        model=model, args=arguments, train_dataset=read_rows(options), data_collator=default_data_collator
    )
    batches = list(trainer.get_train_dataloader())[: options.steps]
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.0, fused=True)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    for batch in batches:
        loss = engine(**batch, use_cache=False).loss
        engine.backward(loss)
        engine.step()


if __name__ == "__main__":
    main()
