"""The folder that pods receive, whole, for one job of each sort.

`ZEROTUNE_UPDATE_GOLDEN=1 pytest tests/unit/plan/test_plan_artifacts.py` writes the expected files again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import create_model
from transformers import TrainingArguments

from zerotune_operator.api.load import load_jobs
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.plan import Plan, plan_job
from zerotune_trainer.config import InferConfig, JobIdentity, TrainConfig, load_config
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.sizing.workload import gib

GOLDEN = Path(__file__).parents[2] / "golden" / "plan"
CASES = sorted(path.parent for path in GOLDEN.glob("*/job.yaml"))
TRAINING = [case for case in CASES if "inference" not in case.name]


def plan(case: Path) -> Plan:
    """Plan the job of a case; the last part of its model's URI names a file of `models`."""
    (job,) = load_jobs(case / "job.yaml")
    uri = str(job.spec.model.uri)
    shape = shape_of_file(GOLDEN / "models" / f"{uri.rsplit('/')[-1].lower()}.json")
    identity = JobIdentity(kind=job.kind, name=job.metadata.name, uid=job.metadata.uid)
    return plan_job(job, shape, place(job, 0, uri), identity)


def estimates(planned: Plan) -> str:
    lines = [
        f"{each.name}: {gib(each.device_bytes)}, {gib(each.node_bytes)}: {each.reason}" for each in planned.candidates
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in planned.notes), ""])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_artifacts_are_as_written_down(case: Path) -> None:
    planned = plan(case)
    actual = planned.artifacts() | {"candidates.txt": estimates(planned)}
    if os.environ.get("ZEROTUNE_UPDATE_GOLDEN"):
        for name, text in actual.items():
            (case / name).write_text(text)
    expected = {path.name: path.read_text() for path in case.iterdir() if path.name != "job.yaml"}
    assert actual == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_written_is_what_the_trainer_reads(case: Path, tmp_path: Path) -> None:
    planned = plan(case)
    for name, text in planned.artifacts().items():
        (tmp_path / name).write_text(text)
    config = load_config(tmp_path)
    assert config == planned.config
    assert config.digest() == planned.summary().config_digest
    assert Hostfile.parse((tmp_path / "hostfile").read_text()) == planned.hostfile


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_field_that_a_later_version_adds_leaves_the_digest_as_it_is(case: Path) -> None:
    config = plan(case).config
    output = create_model("Output", __base__=type(config.output), added=(str, "none"))
    later = create_model("Later", __base__=type(config), added=(int, 0), output=(output, ...))
    upgraded = later.model_validate_json(config.model_dump_json(by_alias=True))
    assert upgraded.digest() == config.digest()
    assert upgraded.model_copy(update={"added": 1}).digest() != config.digest()


@pytest.mark.parametrize("case", TRAINING, ids=lambda case: case.name)
def test_transformers_takes_the_deepspeed_settings_without_changing_one(
    case: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """R29, D6, D7: transformers compares its arguments with the configuration and fills what is "auto"."""
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig, unset_hf_deepspeed_config

    planned = plan(case)
    config, settings = planned.config, planned.deepspeed
    assert isinstance(config, TrainConfig)
    assert settings is not None
    training = config.training
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        per_device_train_batch_size=training.per_device_train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        adam_beta1=training.adam_beta1,
        adam_beta2=training.adam_beta2,
        adam_epsilon=training.adam_epsilon,
        max_grad_norm=training.max_grad_norm,
        lr_scheduler_type=training.lr_scheduler_type,
        warmup_steps=training.warmup_steps,
        bf16=training.precision == "bf16",
        fp16=training.precision == "fp16",
    )
    monkeypatch.setattr(TrainingArguments, "world_size", planned.topology.world_size)
    filled = HfTrainerDeepSpeedConfig(json.loads(json.dumps(settings)))
    try:
        filled.trainer_config_process(arguments)
        filled.trainer_config_finalize(arguments, None, num_training_steps=100)
    finally:
        unset_hf_deepspeed_config()
    assert filled.mismatches == []
    assert filled.config == settings


def test_inference_needs_no_deepspeed_settings() -> None:
    planned = plan(GOLDEN / "inference-four-ranks")
    assert isinstance(planned.config, InferConfig)
    assert set(planned.artifacts()) == {"config.json", "hostfile"}
