"""Baseline: transformers with accelerate's offloading to disk (`device_map`, `offload_folder`). Prints tokens a second,
and what was generated, as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Load, generate one batch, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in {"model": str, "offload-folder": str, "prompt": str, "in-memory": int, "batch": int}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(
        options.model,
        dtype=torch.float32,
        device_map="auto",
        max_memory={"cpu": options.in_memory},
        offload_folder=options.offload_folder,
    )
    batch = tokenizer([options.prompt] * options.batch, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    count = options.new_tokens
    with torch.inference_mode():
        model(**inputs)
        began = time.monotonic()
        ids = model.generate(**inputs, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=1)
    seconds = time.monotonic() - began
    texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    figures = {"tokensPerSecond": options.batch * count / seconds, "seconds": seconds, "texts": texts}
    sys.stdout.write(f"\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
