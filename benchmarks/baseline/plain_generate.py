"""Baseline: `model.generate` over padded batches in the order of the file; torchrun starts a process for each rank, and
a rank of R takes every R-th batch. Writes what was generated, a line for each record: its number, its text.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Load, generate batch after batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in {"model": str, "prompts": Path, "output": Path, "batch": int, "new-tokens": int}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--end-tokens", type=int, nargs="+", required=True)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    ends = [tokenizer.eos_token_id, *options.end_tokens]
    prompts = [json.loads(line)["prompt"] for line in options.prompts.read_text().splitlines()]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with (options.output / f"rank-{rank}.jsonl").open("w") as lines, torch.inference_mode():
        for start in range(rank * options.batch, len(prompts), ranks * options.batch):
            texts = prompts[start : start + options.batch]
            batch = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
            output = model.generate(
                **batch,
                max_new_tokens=options.new_tokens,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=tokenizer.pad_token_id,
            )
            for number, row in enumerate(output[:, batch["input_ids"].shape[1] :].tolist(), start):
                length = next((place for place, token in enumerate(row, 1) if token in ends), len(row))
                text = tokenizer.decode(row[:length], skip_special_tokens=True)
                lines.write(json.dumps({"record": number, "generation": text}) + "\n")


if __name__ == "__main__":
    main()
