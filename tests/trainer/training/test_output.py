"""What a finished job leaves: a folder that transformers loads, figures that are true, and a manifest last."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.manifest import Manifest, differences, read_manifest
from zerotune_trainer.progress import Completion, Progress
from zerotune_trainer.zero_checkpoint import allow_state_types

pytestmark = pytest.mark.slow


def evaluated(job: Any) -> float:
    """Mean loss of a token over the validation rows under the output's model, row by row, in plain transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from zerotune_trainer import data

    model = AutoModelForCausalLM.from_pretrained(job.output)
    rows = data.prepare(TrainConfig.model_validate(job.config), AutoTokenizer.from_pretrained(job.output), processes=1)
    total, count = 0.0, 0
    for row in rows.validation:
        ids, labels = torch.tensor(row["input_ids"]).long(), torch.tensor(row["labels"]).long()
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0].float()
        total += float(torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum"))
        count += int((labels[1:] != -100).sum())
    return total / count


@pytest.mark.parametrize(("method", "stage"), [("cpt", 2), ("sft", 3)])
def test_the_output_is_complete_and_its_figures_are_true(make_job: Any, method: str, stage: int) -> None:
    """R11, R12, R40, R42, R44, D8: two hosts; the perplexity is that of the weights which were saved."""
    job = make_job(method=method, stage=stage, hosts="127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    manifest = read_manifest(job.output)
    assert manifest is not None
    assert differences(job.output, manifest) == []
    assert (manifest.job.name, manifest.step) == ("job", 6)
    assert {file.path for file in manifest.files} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "report.html",
        "results.json",
        "metrics.jsonl",
        "topology.json",
        "trainer_state.json",
    }
    results = job.results()
    assert results["evalLoss"] == pytest.approx(evaluated(job), abs=1e-4)
    assert results["perplexity"] == pytest.approx(math.exp(results["evalLoss"]))
    assert results["evalLoss"] < results["firstEvalLoss"]
    assert results["zeroStage"] == stage
    topology = json.loads((job.output / "topology.json").read_text())
    assert [(entry["rank"], entry["localRank"], entry["host"]) for entry in topology] == [
        (0, 0, "127.0.0.1"),
        (1, 0, "127.0.0.2"),
    ]
    assert [record["step"] for record in job.records() if "evalLoss" in record] == [0, 3, 6]
    _reports_its_completion(job, ended, first_step=0)


def _reports_its_completion(job: Any, ended: Any, *, first_step: int | None) -> None:
    """Rank 0 says it, once, after the manifest was written, with the figures of the files and where it began."""
    [completion] = [heartbeat.completion for heartbeat in ended.heartbeats if heartbeat.completion is not None]
    manifest, results = read_manifest(job.output), job.results()
    assert manifest is not None
    assert completion == Completion(
        job_uid="uid-job",
        config_digest=TrainConfig.model_validate(job.config).digest(),
        uri=job.config["output"]["uri"],
        files=len(manifest.files),
        bytes=sum(file.stat().st_size for file in job.output.iterdir() if file.name in _names(manifest)),
        progress=Progress(
            step=6,
            total=6,
            first_step=first_step,
            eval_loss=results["evalLoss"],
            perplexity=results["perplexity"],
            **{_snake[name]: value for name, value in _last_train_record(job).items() if name in _snake},
        ),
    )


_snake = {
    "epoch": "epoch",
    "loss": "loss",
    "learningRate": "learning_rate",
    "gradNorm": "grad_norm",
    "memoryBytes": "memory_bytes",
}


def _names(manifest: Manifest) -> set[str]:
    return {file.path for file in manifest.files}


def _last_train_record(job: Any) -> dict[str, Any]:
    records: list[dict[str, Any]] = [record for record in job.records() if "loss" in record]
    return records[-1]


@pytest.mark.parametrize(
    ("method", "packings"), [("cpt", ["wrapped", "bfd_split", "none"]), ("sft", ["bfd_split", "none"])]
)
def test_every_token_is_trained_on_once_an_epoch(make_job: Any, method: str, packings: list[str]) -> None:
    """R12: 'tokens in = tokens trained', although neither rows nor blocks divide by what the ranks take at once."""
    for packing in packings:
        job = make_job(f"{method}-{packing}", method=method)
        job.config["data"]["packing"] = packing
        job.config["data"]["maxLength"] = 256
        job.config["training"] |= {"maxSteps": None, "numTrainEpochs": 1, "perDeviceTrainBatchSize": 3}
        job.config["evaluation"]["evalStrategy"] = "no"
        job.config["checkpoint"]["saveStrategy"] = "no"
        ended = job.run()

        assert ended.exit_codes == [0, 0], ended.failures
        results = job.results()
        assert results["tokens"] == results["counts"]["train"]["tokens"]
        assert results["epochs"] == 1.0


def test_the_learning_rate_follows_the_spec(make_job: Any) -> None:
    """D7: cosine after a linear warm-up, computed here by its formula."""
    job = make_job()
    job.config["training"] |= {"lrSchedulerType": "cosine", "maxSteps": 8, "warmupSteps": 3}
    job.config["evaluation"]["evalStrategy"] = "no"
    job.config["checkpoint"]["saveStrategy"] = "no"
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    warm_up = [step / 3 for step in range(3)]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 5)) for step in range(5)]
    rates = [record["learningRate"] for record in job.records()]
    assert rates == pytest.approx([1e-2 * factor for factor in warm_up + cosine])


@pytest.mark.parametrize(("precision", "stage"), [("bf16", 0), ("bf16", 2), ("bf16", 3), ("fp32", 1)])
def test_training_runs_in_the_precision_asked_for(make_job: Any, precision: str, stage: int) -> None:
    """R19, D6: the engine is checked by `zero.check_precision`; here, what it saved."""
    import torch
    from safetensors.torch import load_file

    job = make_job(stage=stage)
    job.config["training"] |= {"precision": precision, "maxSteps": 2}
    job.config["evaluation"]["evalStrategy"] = "no"
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    assert {value.dtype for value in load_file(job.output / "model.safetensors").values()} == {dtype}
    assert job.records()[0]["gradNorm"] > 0
    (step,) = job.checkpoints.glob("checkpoint-2/global_step2")
    parts = sorted(step.glob("*optim_states.pt")) or [step / "mp_rank_00_model_states.pt"]
    allow_state_types()
    loaded = torch.load(parts[0], weights_only=True)
    states = loaded.get("optimizer") or loaded["optimizer_state_dict"]
    floats = [value for value in _tensors(states) if value.is_floating_point() and value.numel() > 64]
    assert floats
    assert {value.dtype for value in floats} == {torch.float32}


def _tensors(value: Any) -> list[Any]:
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [tensor for child in children for tensor in _tensors(child)]


def best_before_the_end(job: Any, *, loads_best: bool) -> tuple[dict[int, float], int]:
    """Run a job whose rate rises so far that evaluation is best before the end: its losses by step, the best step."""
    job.config["training"] |= {"learningRate": 0.6, "maxSteps": 6, "warmupSteps": 24}
    job.config["evaluation"] |= {"evalSteps": 1, "loadBestModelAtEnd": loads_best}
    job.config["checkpoint"] |= {"saveSteps": 100, "saveTotalLimit": 1}
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    losses = {
        record["step"]: record["evalLoss"] for record in job.records() if record.get("step") and "evalLoss" in record
    }
    best = min(losses, key=lambda step: losses[step])
    assert best != 6, "the case does not test what it is for"
    return losses, best


def test_d18_the_last_state_becomes_the_output_though_it_is_not_the_best(make_job: Any) -> None:
    job = make_job()
    losses, best = best_before_the_end(job, loads_best=False)
    assert evaluated(job) == pytest.approx(losses[6], abs=1e-4)
    assert losses[6] - losses[best] > 1e-3


@pytest.mark.parametrize("stage", [2, 3])
def test_the_best_state_becomes_the_output(make_job: Any, stage: int) -> None:
    """R40."""
    job = make_job(stage=stage)
    losses, best = best_before_the_end(job, loads_best=True)
    results = job.results()
    assert (results["bestStep"], results["evalLoss"]) == (best, losses[best])
    assert results["evalLoss"] == pytest.approx(evaluated(job), abs=1e-4)
    assert {path.name for path in job.checkpoints.glob("checkpoint-*")} == {f"checkpoint-{best}", "checkpoint-6"}


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"saveStrategy": "steps", "saveSteps": 2, "saveTotalLimit": 2}, [4, 6]),
        ({"saveStrategy": "epoch", "saveTotalLimit": 9}, [2, 4, 6]),
        ({"saveStrategy": "no"}, []),
    ],
)
def test_checkpoints_are_saved_as_asked_and_hold_every_ranks_part(
    make_job: Any, settings: dict[str, Any], kept: list[int]
) -> None:
    """R22, R39."""
    job = make_job(hosts="127.0.0.1 slots=1\n127.0.0.2 slots=1\n", stage=3)
    job.config["training"] |= {"maxSteps": 6, "perDeviceTrainBatchSize": 1, "gradientAccumulationSteps": 9}
    job.config["data"]["maxLength"] = 128
    job.config["checkpoint"] = settings
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    found = {path.name for path in job.checkpoints.glob("checkpoint-*")}
    assert found == {f"checkpoint-{step}" for step in kept}
    for name in found:
        manifest = read_manifest(job.checkpoints / name)
        assert manifest is not None
        files = {Path(file.path).name for file in manifest.files}
        assert files >= {f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 1)}
        assert files >= {f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in (0, 1)}
        assert files >= {f"rng_state_{rank}.pth" for rank in (0, 1)}


def test_a_finished_job_whose_weights_are_gone_writes_its_output_again(make_job: Any) -> None:
    job = make_job()
    assert job.run().exit_codes == [0, 0]
    weights = job.output / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "its result is not whole: missing or of another size: model.safetensors" in ended.log
    assert weights.read_bytes() == before


def test_a_finished_job_is_left_as_it_is(make_job: Any) -> None:
    job = make_job()
    assert job.run().exit_codes == [0, 0]
    before = {path: path.stat().st_mtime_ns for path in job.output.rglob("*")}
    ended = job.run()

    assert ended.exit_codes == [0, 0]
    assert "job is finished" in ended.log
    _reports_its_completion(job, ended, first_step=None)
    assert {path: path.stat().st_mtime_ns for path in job.output.rglob("*")} == before
    job.config["training"]["maxSteps"] = 99
    ended = job.run()
    assert ended.own_exit_codes == {64}
    assert "the result of job with another configuration" in ended.failures[0].message


def test_a_job_of_fewer_steps_than_logging_steps_has_a_record_and_ends_well(make_job: Any) -> None:
    job = make_job()
    job.config["training"] |= {"maxSteps": 2, "loggingSteps": 50}
    job.config["evaluation"]["evalStrategy"] = job.config["checkpoint"]["saveStrategy"] = "no"
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert [record["step"] for record in job.records()] == [2]
    assert job.results()["trainLoss"] == pytest.approx(job.losses()[0])
