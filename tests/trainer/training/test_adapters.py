"""LoRA: the adapter alone is trained and saved, on any ZeRO stage, and what comes of it is used by later jobs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training.test_loss_parity import TOLERANCE, plain
from tests.trainer.training.training_job import Job
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.manifest import read_manifest

pytestmark = pytest.mark.slow

LORA = {"type": "lora", "r": 4, "alpha": 8, "targetModules": ["q_proj", "v_proj"]}
WEIGHTS = "adapter_model.safetensors"


def maker_of(make_job: Any, given: dict[str, Any]) -> Any:
    """Makes jobs that train an adapter."""

    def make(name: str = "job", stage: int = 2, **adapter: Any) -> Job:
        job: Job = make_job(name, method="sft", stage=stage)
        job.config["adapter"] = given | adapter
        return job

    return make


@pytest.fixture
def make_lora_job(make_job: Any) -> Any:
    return maker_of(make_job, LORA)


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """What one process without DeepSpeed comes to, computed once."""
    return {}


def loss_of(model: Any, job: Job) -> float:
    """Mean loss of a token over the validation rows."""
    import torch
    from transformers import AutoTokenizer

    from zerotune_trainer import data

    folder = job.config["model"]["uri"].removeprefix("file://")
    rows = data.prepare(TrainConfig.model_validate(job.config), AutoTokenizer.from_pretrained(folder), processes=1)
    total, count = 0.0, 0
    assert rows.validation is not None
    for row in rows.validation:
        ids, labels = torch.tensor(row["input_ids"]).long(), torch.tensor(row["labels"]).long()
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0].float()
        total += float(torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum"))
        count += int((labels[1:] != -100).sum())
    return total / count


def evaluations(job: Job) -> list[float]:
    return [record["evalLoss"] for record in job.records() if "evalLoss" in record]


@pytest.mark.parametrize(("stage", "recomputes"), [(0, False), (2, True), (3, True)])
def test_d9_losses_of_two_ranks_equal_those_of_peft_in_one_process(
    make_lora_job: Any, tmp_path: Path, reference: dict[str, Any], stage: int, recomputes: bool
) -> None:
    job = make_lora_job(stage=stage)
    job.config["data"]["validationFraction"] = 0
    job.config["training"] |= {"maxSteps": 10, "gradientCheckpointing": recomputes}
    job.config["checkpoint"]["saveStrategy"] = "no"
    if not reference:
        reference["curve"] = plain(job, tmp_path / "plain", adapted)
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    ours = [(record["loss"], record["gradNorm"]) for record in job.records() if "loss" in record]
    assert ours == [pytest.approx(pair, abs=TOLERANCE) for pair in reference["curve"]]
    assert min(norm for _, norm in ours) > 0


def adapted(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(42)
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))


def test_the_output_is_an_adapter_that_peft_loads_and_the_base_stays(make_lora_job: Any, model_folder: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from safetensors.torch import load_file

    before = hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest()
    job = make_lora_job(stage=3)
    # The rate rises so far that evaluation is best before the end.
    job.config["training"] |= {"learningRate": 60.0, "warmupSteps": 24}
    job.config["evaluation"] |= {"evalSteps": 1, "loadBestModelAtEnd": True}
    job.config["checkpoint"]["saveSteps"] = 100
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    manifest = read_manifest(job.output)
    assert manifest is not None
    files = {file.path for file in manifest.files}
    assert files >= {WEIGHTS, "adapter_config.json", "tokenizer.json", "README.md", "report.html"}
    assert "model.safetensors" not in files
    assert json.loads((job.output / "adapter_config.json").read_text())["base_model_name_or_path"] == str(model_folder)
    names = set(load_file(job.output / WEIGHTS))
    assert len(names) == 2 * 2 * 2
    assert all(".q_proj.lora_" in name or ".v_proj.lora_" in name for name in names)
    results = job.results()
    assert results["evalLoss"] == min(evaluations(job)) < results["firstEvalLoss"]
    assert results["bestStep"] not in (0, 6), evaluations(job)
    assert loss_of(AutoPeftModelForCausalLM.from_pretrained(job.output), job) == pytest.approx(
        results["evalLoss"], abs=1e-4
    )
    assert results["trainedParameters"] == 4 * (64 + 64 + 64 + 32) * 2
    assert hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest() == before


@pytest.mark.parametrize("stage", [1, 3])
def test_resuming_repeats_the_run_and_checkpoints_hold_no_base(make_lora_job: Any, stage: int) -> None:
    job = make_lora_job(stage=stage)
    assert job.run().exit_codes == [0, 0]
    curve, weights = job.curve(), (job.output / WEIGHTS).read_bytes()
    parts = list((job.checkpoints / "checkpoint-6").rglob("*.pt"))
    assert sum(part.stat().st_size for part in parts) < (model_size(job) / 2)

    shutil.rmtree(job.checkpoints / "checkpoint-6")
    (job.output / "manifest.json").unlink()
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "checkpoint-4" in ended.log
    assert job.curve() == curve
    assert (job.output / WEIGHTS).read_bytes() == weights


def model_size(job: Job) -> int:
    return (Path(job.config["model"]["uri"].removeprefix("file://")) / "model.safetensors").stat().st_size


def test_d12_a_merged_output_computes_what_base_and_adapter_do(make_lora_job: Any) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    job = make_lora_job(stage=3, merge=True, useDora=True, useRslora=True, modulesToSave=["lm_head"])
    job.config["adapter"]["targetModules"] = ["all-linear"]
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    ids = torch.arange(40)[None]
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(job.output)(input_ids=ids).logits
        adapter = AutoPeftModelForCausalLM.from_pretrained(job.output / "adapter")(input_ids=ids).logits
    assert float((merged - adapter).abs().max()) < 1e-5


def test_a_later_job_goes_on_with_the_adapter_or_merges_it(make_lora_job: Any, make_job: Any) -> None:
    first = make_lora_job("first")
    assert first.run().exit_codes == [0, 0]
    second, third = make_lora_job("second"), make_job("third", method="sft", stage=3)
    for job in (second, third):
        job.config["model"]["uri"] = f"file://{first.output}"
        ended = job.run()
        assert ended.exit_codes == [0, 0], ended.failures
        assert evaluations(job)[0] == pytest.approx(evaluations(first)[-1], abs=1e-4)
    assert (second.output / WEIGHTS).is_file()
    before, after = (json.loads((job.output / "adapter_config.json").read_text()) for job in (first, second))
    assert after | {"target_modules": []} == before | {"target_modules": []}
    assert set(after["target_modules"]) == {"q_proj", "v_proj"}
    assert (third.output / "model.safetensors").is_file()


def test_a_job_that_goes_on_with_an_adapter_on_fewer_layers_says_so(make_lora_job: Any) -> None:
    first, second = make_lora_job("first"), make_lora_job("second", targetModules=["all-linear"])
    assert first.run().exit_codes == [0, 0]
    second.config["model"]["uri"] = f"file://{first.output}"
    ended = second.run()
    assert ended.exit_codes == [0, 0], ended.failures
    (warning,) = ended.warnings
    assert f"{first.output} holds an adapter that lies on 4 of the 14 layers" in warning


def test_an_adapter_in_bf16_goes_on_with_its_own_rank_alone(make_lora_job: Any) -> None:
    import torch
    from safetensors.torch import load_file

    first = make_lora_job("first")
    first.hosts = "127.0.0.1 slots=1\n"
    first.config["training"]["precision"] = "bf16"
    assert first.run().exit_codes == [0]
    assert {weight.dtype for weight in load_file(first.output / WEIGHTS).values()} == {torch.bfloat16}
    second = make_lora_job("second", r=8, targetModules=["o_proj"])
    second.hosts, second.config["model"]["uri"] = first.hosts, f"file://{first.output}"
    message = second.run().failures[0].message
    assert "r is 4, the job asks for 8" in message
    assert "targetModules is ['q_proj', 'v_proj'], the job asks for ['o_proj']" in message
