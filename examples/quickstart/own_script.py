"""A training script of one's own, with DeepSpeed's engine: zerotune starts it on every rank of own_script.yaml."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import deepspeed
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zerotune_trainer import script_job


def main(steps: int) -> None:
    """Train for so many steps; go on from the last checkpoint, and stop after one when asked to."""
    job = script_job.current()
    torch.manual_seed(job.config.training.seed)
    model = AutoModelForCausalLM.from_pretrained(job.model_folder(), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=float(job.config.training.learning_rate))
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=job.deepspeed)
    engine.load_checkpoint(job.checkpoints)
    batches = read_batches(job, engine.train_micro_batch_size_per_gpu())
    while engine.global_steps < steps:
        batch = batches[engine.global_steps % len(batches)]
        loss = engine(input_ids=batch, labels=batch).loss
        engine.backward(loss)
        engine.step()
        job.progress(engine.global_steps, steps, loss=loss.item())
        stops = job.asked_to_stop()
        if stops or engine.global_steps % job.config.checkpoint.save_steps == 0:
            engine.save_checkpoint(job.checkpoints, tag=f"step-{engine.global_steps}")
            job.checkpointed(f"step-{engine.global_steps}")
            job.checkpointed("latest")
        if stops:
            job.stop()
    if job.context.rank == 0:
        model.save_pretrained(job.output)
        AutoTokenizer.from_pretrained(job.model_folder()).save_pretrained(job.output)


def read_batches(job: script_job.ScriptJob, rows: int) -> list[torch.Tensor]:
    """This rank's share of the text, in blocks of `data.maxLength` tokens, so many a batch."""
    tokenizer = AutoTokenizer.from_pretrained(job.model_folder())
    files = [Path(uri.removeprefix("file://")) for uri in job.config.data.train.uris]
    texts = [json.loads(line)["text"] for file in files for line in file.read_text().splitlines()]
    ids = torch.tensor([token for text in texts for token in tokenizer(text)["input_ids"]])
    length, context = job.config.data.max_length, job.context
    blocks = ids[: len(ids) // length * length].view(-1, length)[context.rank :: context.world_size]
    return [batch for batch in blocks.split(rows) if len(batch) == rows]


if __name__ == "__main__":
    main(int(sys.argv[1]))
