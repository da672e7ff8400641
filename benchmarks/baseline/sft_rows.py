"""Steps with TRL's SFTTrainer; started by torchrun."""

from __future__ import annotations

from rows import read_options, read_rows, training_arguments
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train; the rows are tokenized already."""
    options = read_options()
    arguments = SFTConfig(
        **training_arguments(options),
        gradient_checkpointing=False,
        max_length=None,
        model_init_kwargs={"dtype": "float32"},
    )
    SFTTrainer(model=options.model, args=arguments, train_dataset=read_rows(options)).train()


if __name__ == "__main__":
    main()
