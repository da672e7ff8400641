"""Steps with transformers' Trainer; started by torchrun."""

from __future__ import annotations

from rows import read_options, read_rows, training_arguments
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, default_data_collator


def main() -> None:
    """Train."""
    options = read_options()
    arguments = TrainingArguments(**training_arguments(options))
    model = AutoModelForCausalLM.from_pretrained(options.model)
    Trainer(model=model, args=arguments, train_dataset=read_rows(options), data_collator=default_data_collator).train()


if __name__ == "__main__":
    main()
