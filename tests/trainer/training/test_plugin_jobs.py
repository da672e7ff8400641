"""Plug-ins on real ranks: the example of the quick start, and functions that do what ours do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.errors import ConfigurationError

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[3] / "examples" / "quickstart" / "plugin.py"
LIKE_OURS = """
import torch

def loss(outputs, labels, num_items_in_batch=None):
    logits, targets = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / num_items_in_batch

def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    pad = lambda ids, filler: [*ids.tolist(), *[filler] * (longest - len(ids))]
    return {
        "input_ids": torch.tensor([pad(row["input_ids"], 0) for row in rows]),
        "attention_mask": torch.tensor([pad(row["input_ids"] * 0 + 1, 0) for row in rows]),
        "labels": torch.tensor([pad(row["labels"], -100) for row in rows]),
    }
"""
FAILS = """
from transformers import TrainerCallback

class Watch(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise ValueError("seen enough")
"""


def test_a_loss_and_a_collator_like_ours_train_what_ours_do(make_job: Any, expected: Any, tmp_path: Path) -> None:
    """At another ZeRO stage, whose head is not called as a module that makes its loss itself."""
    job = make_job(stage=3)
    job.config["training"]["maxSteps"] = 8
    (tmp_path / "plugin.py").write_text(LIKE_OURS)
    job.config["plugin"] = {
        "file": f"file://{tmp_path}/plugin.py",
        "computeLossFunc": "loss",
        "dataCollator": "collate",
    }
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    records, _ = expected(2)
    assert job.losses() == pytest.approx([each["loss"] for each in records if "loss" in each], rel=1e-4)


def test_the_example_trains_and_its_content_is_part_of_the_job(make_job: Any, tmp_path: Path) -> None:
    job = make_job(method="sft")
    records = [
        {"messages": [{"role": "user", "content": " What? "}, {"role": "assistant", "content": "CWE-79"}]}
        for _ in range(20)
    ]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    plugin = Path(shutil.copy(EXAMPLE, tmp_path / "plugin.py"))
    job.config["data"]["train"]["uris"] = [f"file://{tmp_path}/chat.jsonl"]
    job.config["plugin"] = {
        "file": f"file://{plugin}",
        "processing": "clean",
        "formattingFunc": "as_text",
        "computeLossFunc": "focal_loss",
        "dataCollator": "collate",
        "callbacks": ["StopWhenLearned"],
    }
    job.config["training"]["maxSteps"] = 60
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    steps = job.results()["steps"]
    assert steps < 60 and job.losses()[-1] < 0.05 < job.losses()[-2]
    assert (job.checkpoints / f"checkpoint-{steps}").is_dir()

    plugin.write_text(plugin.read_text().replace("GAMMA = 2.0", "GAMMA = 1.0"))
    (failure, *_) = job.run().failures.values()
    assert failure.exit_code == ConfigurationError.exit_code
    assert "with another content of its plug-in" in failure.message

    (job.output / "manifest.json").unlink()
    job.config["job"]["attempt"] = 1
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert f"checkpoint-{steps} was written with another content of the plug-in file://{plugin}" in ended.log


def test_a_callback_that_fails_is_named_with_its_step(make_job: Any, tmp_path: Path) -> None:
    job = make_job(hosts="127.0.0.1 slots=1\n")
    (tmp_path / "plugin.py").write_text(FAILS)
    job.config["plugin"] = {"file": f"file://{tmp_path}/plugin.py", "callbacks": ["Watch"]}
    ended = job.run()
    failure = ended.failures[0]
    assert failure.failure_class == "Configuration"
    assert "plugin.py:Watch.on_step_end failed at step 2: ValueError: seen enough (line 7)" in failure.message
