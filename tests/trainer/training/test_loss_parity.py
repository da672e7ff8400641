"""ZeRO changes where things are kept, not what is computed: two ranks lose what one does without DeepSpeed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from zerotune_trainer.config import TrainConfig

pytestmark = pytest.mark.slow

STEPS = 10
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """Losses and gradient norms by method, computed once."""
    return {}


def plain(job: Any, output: Path, prepare: Callable[[Any], Any] = lambda model: model) -> list[tuple[float, float]]:
    """Loss and gradient norm by step: transformers' Trainer, one process, no DeepSpeed, the global batch at once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    from zerotune_trainer import data

    config = TrainConfig.model_validate(job.config)
    folder = job.config["model"]["uri"].removeprefix("file://")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = data.prepare(config, tokenizer, processes=1)
    training = config.training
    arguments = TrainingArguments(
        output_dir=str(output),
        use_cpu=True,
        max_steps=STEPS,
        per_device_train_batch_size=4,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_scheduler_type,
        warmup_steps=training.warmup_steps,
        seed=training.seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    model = prepare(AutoModelForCausalLM.from_pretrained(folder))
    trainer = Trainer(
        model,
        arguments,
        data_collator=data.collator(config, tokenizer),
        train_dataset=cast(Any, rows.train),
    )
    trainer.train()
    return [(log["loss"], log["grad_norm"]) for log in trainer.state.log_history if "grad_norm" in log]


CASES = [*itertools.product(["sft", "cpt"], [0, 1, 2, 3]), ("packed", 2)]


@pytest.mark.parametrize(("method", "stage"), CASES)
def test_the_losses_of_two_ranks_are_those_of_one_without_deepspeed(
    make_job: Any, tmp_path: Path, reference: dict[str, Any], method: str, stage: int
) -> None:
    """Rows of very different lengths, a loss on completions only, and accumulation, in sft; wrapped blocks in cpt;
    documents that share blocks in packed."""
    job = make_job(method="sft" if method == "sft" else "cpt", stage=stage)
    job.config["data"]["validationFraction"] = 0
    job.config["training"] |= {"maxSteps": STEPS, "weightDecay": 0.0}
    job.config["checkpoint"]["saveStrategy"] = "no"
    if method == "packed":
        job.config["data"]["packing"] = "bfd_split"
    if method == "sft":
        job.config["training"] |= {"perDeviceTrainBatchSize": 1, "gradientAccumulationSteps": 2}
    if method not in reference:
        reference[method] = plain(job, tmp_path / "plain")
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    ours = [(record["loss"], record["gradNorm"]) for record in job.records() if "loss" in record]
    pairs = [pair for both in zip(ours, reference[method], strict=True) for pair in zip(*both, strict=True)]
    difference = max(abs(a - b) / max(1, b) for a, b in pairs)
    print(f"{method}, ZeRO-{stage}: largest difference of a loss or gradient norm {difference:.1e}")
    assert difference < TOLERANCE


@pytest.mark.parametrize("stage", [2, 3])
def test_offload_to_the_cpu_computes_the_same(
    make_job: Any, tmp_path: Path, reference: dict[str, Any], stage: int
) -> None:
    """With transformers' AdamW: DeepSpeed's own for CPU would be compiled at start."""
    job = make_job(stage=stage)
    job.deepspeed["zero_force_ds_cpu_optimizer"] = False
    job.deepspeed["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    if stage == 3:
        job.deepspeed["zero_optimization"]["offload_param"] = {"device": "cpu", "pin_memory": False}
    job.config["data"]["validationFraction"] = 0
    job.config["training"]["maxSteps"] = STEPS
    job.config["checkpoint"]["saveStrategy"] = "no"
    if "cpt" not in reference:
        reference["cpt"] = plain(job, tmp_path / "plain")
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert job.losses() == pytest.approx([loss for loss, _ in reference["cpt"]], abs=TOLERANCE)
