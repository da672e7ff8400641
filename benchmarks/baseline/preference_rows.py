"""Steps with TRL's trainer of a preference method; started by torchrun."""

from __future__ import annotations

from typing import Any

import torch
from rows import read_options, read_rows, training_arguments
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

TRAINERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    # What the reference says is computed before training, as ours is: the faster and smaller of TRL's two ways.
    "dpo": (DPOTrainer, DPOConfig, {"precompute_ref_log_probs": True}),
    "orpo": (ORPOTrainer, ORPOConfig, {}),
    "kto": (KTOTrainer, KTOConfig, {"precompute_ref_log_probs": True}),
}


def main() -> None:
    """Train."""
    options = read_options()
    trainer, config, further = TRAINERS[options.method]
    arguments = config(**training_arguments(options), gradient_checkpointing=False, max_length=512, **further)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    trainer(model=model, args=arguments, train_dataset=read_rows(options), processing_class=tokenizer).train()


if __name__ == "__main__":
    main()
