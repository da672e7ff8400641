"""qlora: an adapter over a base that is quantized while it is trained; what is saved is an adapter like any other."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training.test_adapters import WEIGHTS, evaluations, maker_of
from tests.trainer.training.test_loss_parity import TOLERANCE, plain
from zerotune_trainer.manifest import read_manifest
from zerotune_trainer.sizing.model_config import shape_of_file

pytestmark = pytest.mark.slow

QLORA = {"type": "qlora", "r": 4, "alpha": 8}
ONE_RANK = "127.0.0.1 slots=1\n"


@pytest.fixture
def make_qlora_job(make_job: Any) -> Any:
    return maker_of(make_job, QLORA)


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """What one process without DeepSpeed comes to, by number format."""
    return {}


def quantized(number_format: str) -> Any:
    """As the documentation of transformers asks for it."""
    from transformers import BitsAndBytesConfig

    if number_format == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type=number_format, bnb_4bit_use_double_quant=True
    )


def adapted(number_format: str) -> Callable[[Any], Any]:
    def prepare(model: Any) -> Any:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, set_seed

        config = quantized(number_format)
        base = AutoModelForCausalLM.from_pretrained(model.name_or_path, quantization_config=config, device_map="cpu")
        set_seed(42)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        return get_peft_model(base, lora)

    return prepare


@pytest.mark.parametrize(
    ("number_format", "stage", "recomputes"),
    [("nf4", 0, False), ("nf4", 2, True), ("int8", 1, False), ("fp4", 2, False)],
)
def test_losses_of_two_ranks_equal_those_of_peft_in_one_process(
    make_qlora_job: Any, tmp_path: Path, reference: dict[str, Any], number_format: str, stage: int, recomputes: bool
) -> None:
    """Evaluations between the steps change nothing of what follows."""
    job = make_qlora_job(stage=stage, quantization=number_format)
    job.config["training"] |= {"maxSteps": 10, "gradientCheckpointing": recomputes}
    job.config["checkpoint"]["saveStrategy"] = "no"
    if number_format not in reference:
        reference[number_format] = plain(job, tmp_path / "plain", adapted(number_format))
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    ours = [(record["loss"], record["gradNorm"]) for record in job.records() if "loss" in record]
    assert ours == [pytest.approx(pair, abs=TOLERANCE) for pair in reference[number_format]]
    assert evaluations(job)[-1] < evaluations(job)[0] - 0.05


def test_the_output_is_an_adapter_of_the_unquantized_base(make_qlora_job: Any, model_folder: Path) -> None:
    """Merged it is added to weights as they were before they were quantized."""
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    before = hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest()
    job = make_qlora_job(merge=True, useDora=True, useRslora=True, modulesToSave=["lm_head", "layers.1.mlp"])
    job.config["adapter"]["targetModules"] = ["q_proj", "v_proj"]
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    manifest = read_manifest(job.output)
    assert manifest is not None
    assert {file.path for file in manifest.files} >= {"model.safetensors", f"adapter/{WEIGHTS}"}
    assert "quantization_config" not in json.loads((job.output / "config.json").read_text())
    ids = torch.arange(40)[None]
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(job.output)(input_ids=ids).logits
        adapter = AutoPeftModelForCausalLM.from_pretrained(job.output / "adapter")(input_ids=ids).logits
    assert float((merged - adapter).abs().max()) < 1e-5
    assert hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest() == before


def test_resuming_repeats_the_run_and_checkpoints_hold_no_base(make_qlora_job: Any, model_folder: Path) -> None:
    job = make_qlora_job()
    assert job.run().exit_codes == [0, 0]
    curve, weights = job.curve(), (job.output / WEIGHTS).read_bytes()
    results = job.results()
    assert (
        results["parameters"] - results["trainedParameters"] == shape_of_file(model_folder / "config.json").parameters
    )
    (states,) = (job.checkpoints / "checkpoint-6").rglob("mp_rank_00_model_states.pt")
    import torch

    names = torch.load(states, weights_only=False)["module"]
    assert names and all(".lora_" in name for name in names)
    assert not any(file.path == "model.safetensors" for file in read_manifest(job.output).files)  # type: ignore[union-attr]

    shutil.rmtree(job.checkpoints / "checkpoint-6")
    (job.output / "manifest.json").unlink()
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "checkpoint-4" in ended.log
    assert job.curve() == curve
    assert (job.output / WEIGHTS).read_bytes() == weights


def test_later_jobs_go_on_with_the_adapter_over_either_base(make_qlora_job: Any, make_job: Any) -> None:
    """Over the quantized base it is what it was; over the other, and merged into it, nearly so."""
    first = make_qlora_job("first", quantization="int8")
    assert first.run().exit_codes == [0, 0]
    again, as_lora, merged = (make_qlora_job("again", quantization="int8"), make_qlora_job("lora"), make_job("merged"))
    as_lora.config["adapter"]["type"] = "lora"
    merged.config |= {"method": "sft", "data": first.config["data"]}
    for job, tolerance in ((again, 1e-4), (as_lora, 0.05), (merged, 0.05)):
        job.config["model"]["uri"] = f"file://{first.output}"
        job.config["training"]["maxSteps"] = 1
        ended = job.run()
        assert ended.exit_codes == [0, 0], ended.failures
        assert evaluations(job)[0] == pytest.approx(evaluations(first)[-1], abs=tolerance)
    assert evaluations(as_lora)[0] == pytest.approx(evaluations(merged)[0], abs=1e-4)


@pytest.mark.parametrize("number_format", ["nf4", "int8"])
def test_the_reference_of_preferences_is_the_quantized_base(
    make_qlora_job: Any, tmp_path: Path, number_format: str
) -> None:
    """Found again by a job that quantizes alike, and never by one that does not. It is what training begins with."""
    pairs = [{"prompt": f"Is {number} known?", "chosen": " It is.", "rejected": " Not at all!"} for number in range(9)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    logs = []
    for name, adapter in (("own", {}), ("again", {"r": 2}), ("lora", {"type": "lora", "quantization": None})):
        job = make_qlora_job(name, **({"quantization": number_format} | adapter))
        job.hosts, job.config["method"] = ONE_RANK, "dpo"
        job.config["data"] |= {"train": {"uris": [f"file://{tmp_path}/pairs.jsonl"]}, "validationFraction": 0}
        job.config["launch"]["cacheDir"] = str(tmp_path / "cache")
        job.config["training"] |= {"maxSteps": 3, "warmupSteps": 0}
        job.config["evaluation"] = {"evalStrategy": "no"}
        ended = job.run()
        assert ended.exit_codes == [0], ended.failures
        margins = [record["metrics"]["rewards/margins"] for record in job.records() if "loss" in record]
        assert margins[0] == pytest.approx(0, abs=1e-5) and margins[-1] > 0.01
        logs.append(ended.log)
    assert ["computing the reference" in log for log in logs] == [True, False, True]


def test_a_job_in_bf16_trains_over_each_number_format(make_qlora_job: Any, tmp_path: Path) -> None:
    """DeepSpeed keeps fp32 weights of the adapter; what is saved is bf16. Nothing is compiled."""
    import torch
    from safetensors.torch import load_file

    for number_format in ("nf4", "int8"):
        job = make_qlora_job(number_format, stage=1, quantization=number_format)
        job.hosts, job.config["training"]["precision"] = ONE_RANK, "bf16"
        job.environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
        ended = job.run()
        assert ended.exit_codes == [0], ended.failures
        assert evaluations(job)[-1] < evaluations(job)[0]
        assert {weight.dtype for weight in load_file(job.output / WEIGHTS).values()} == {torch.bfloat16}
        assert not list((tmp_path / "inductor").rglob("*"))


@pytest.mark.parametrize("number_format", ["nf4", "int8"])
def test_weights_that_are_no_numbers_are_named_before_they_are_quantized(
    make_qlora_job: Any, model_folder: Path, tmp_path: Path, number_format: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    job = make_qlora_job(quantization=number_format)
    job.hosts, job.config["model"]["uri"] = ONE_RANK, f"file://{folder}"
    message = job.run().failures[0].message
    assert "not finite in torch.float32: model.layers.0.mlp.up_proj.weight" in message
