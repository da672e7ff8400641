"""A job that is killed or stopped goes on where its last whole checkpoint ends, and comes to the same result."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.trainer.training.training_job import eight_steps
from zerotune_trainer.zero_checkpoint import whole_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_killed_job_comes_to_the_same_curve_and_weights(
    make_job: Any, expected: Any, stage: int, model_folder: Path, tmp_path: Path
) -> None:
    """Its last checkpoint, of whose weights at stage 3 each rank has written a part, is the model that it wrote."""
    job = eight_steps(make_job(stage=stage))
    running = job.start()
    running.until(lambda heartbeat: heartbeat.step >= 5)
    running.signal(signal.SIGKILL)
    assert running.end().exit_codes == [-9, -9]
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-4" in ended.log
    assert (job.curve(), job.weights()) == expected(stage)
    folder = whole_model(job.checkpoints / "checkpoint-8", model_folder, tmp_path / "cache")
    whole, written = AutoModelForCausalLM.from_pretrained(folder), load_file(job.output / "model.safetensors")
    assert all(torch.equal(whole.get_parameter(name), weight) for name, weight in written.items())
    assert (folder / "tokenizer.json").read_bytes() == (model_folder / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("asked", [[0], [1], [0, 1]], ids=["rank 0", "rank 1", "both"])
def test_a_rank_asked_to_stop_stops_all_after_a_checkpoint(make_job: Any, expected: Any, asked: list[int]) -> None:
    job = eight_steps(make_job())
    job.config["checkpoint"]["saveSteps"] = 100
    running = job.start()
    running.until(lambda heartbeat: heartbeat.step >= 2)
    running.signal(signal.SIGTERM, asked)
    ended = running.end()

    assert ended.exit_codes == [143, 143], ended.failures
    assert "after step" in ended.failures[0].message and "checkpoint-" in ended.failures[0].message
    assert len(list(job.checkpoints.glob("checkpoint-*/manifest.json"))) == 1
    assert not (job.output / "manifest.json").exists()
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert (job.curve(), job.weights()) == expected(2)


def test_a_stop_while_evaluating_keeps_the_step_and_makes_up_for_the_evaluation(make_job: Any, expected: Any) -> None:
    job = eight_steps(make_job())
    job.config["checkpoint"]["saveSteps"] = 100
    running = job.start()
    running.until(lambda heartbeat: heartbeat.phase == "evaluating" and heartbeat.step == 3)
    running.signal(signal.SIGTERM)
    ended = running.end()
    assert ended.exit_codes == [143, 143], ended.failures
    assert "checkpoint-3" in ended.failures[0].message
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert (job.curve(), job.weights()) == expected(2)


@pytest.mark.parametrize("phase", ["data", "model", "evaluating"])
def test_a_stop_before_the_first_step_leaves_nothing_and_the_next_run_finishes(make_job: Any, phase: str) -> None:
    job = make_job()
    job.config["evaluation"]["evalStrategy"] = "epoch"
    job.config["training"]["maxSteps"] = 2
    running = job.start()
    running.until(lambda heartbeat: heartbeat.phase == phase)
    running.signal(signal.SIGTERM)
    ended = running.end()

    # A rank that is a little behind may not listen yet; the launcher reads -15 as stopped, too.
    assert set(ended.exit_codes) <= {143, -signal.SIGTERM}, ended.failures
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures


def test_a_stop_while_saving_completes_the_checkpoint(make_job: Any, expected: Any) -> None:
    job = eight_steps(make_job())
    running = job.start()
    running.until(lambda heartbeat: heartbeat.phase == "saving" and heartbeat.step == 4)
    running.signal(signal.SIGTERM)
    ended = running.end()

    assert ended.exit_codes == [143, 143], ended.failures
    assert (job.checkpoints / "checkpoint-4" / "manifest.json").exists()
    assert job.run().exit_codes == [0, 0]
    assert (job.curve(), job.weights()) == expected(2)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_with_a_flipped_byte_is_skipped(interrupted: Any, expected: Any) -> None:
    job = interrupted
    damaged = next((job.checkpoints / "checkpoint-6").glob("global_step6/*optim_states.pt"))
    flip_a_byte(damaged)
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert f"checkpoint-6 is damaged: global_step6/{damaged.name} has changed" in ended.log
    assert "training begins at checkpoint-4" in ended.log
    assert (job.curve(), job.weights()) == expected(2)


def test_where_no_checkpoint_is_whole_training_begins_again_and_says_so(interrupted: Any, expected: Any) -> None:
    job = interrupted
    for path in job.checkpoints.glob("checkpoint-*/global_step*/*optim_states.pt"):
        flip_a_byte(path)
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert f"no checkpoint in file://{job.checkpoints} is whole: training begins at the beginning" in ended.log
    assert (job.curve(), job.weights()) == expected(2)


def test_a_checkpoint_whose_manifest_is_damaged_is_skipped_and_not_removed_for_it(
    interrupted: Any, expected: Any
) -> None:
    job = interrupted
    manifest = job.checkpoints / "checkpoint-6" / "manifest.json"
    manifest.write_bytes(b"\xff" + manifest.read_bytes())
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "checkpoint-6 is damaged: its manifest cannot be read" in ended.log
    assert "checkpoint-6 was not completed" not in ended.log
    assert "training begins at checkpoint-4" in ended.log
    assert (job.curve(), job.weights()) == expected(2)


def test_a_damaged_checkpoint_asked_for_by_name_is_rejected(interrupted: Any) -> None:
    job = interrupted
    damaged = next((job.checkpoints / "checkpoint-6").glob("global_step6/*optim_states.pt"))
    flip_a_byte(damaged)
    job.config["checkpoint"]["resume"] = "checkpoint-6"
    ended = job.run()

    assert ended.own_exit_codes == {64}
    assert f"{damaged.name} has changed: its sha256 is not that of the manifest" in ended.failures[0].message


def test_a_checkpoint_without_a_manifest_is_not_used(interrupted: Any, expected: Any) -> None:
    """A crash while writing leaves files without a manifest."""
    job = interrupted
    (job.checkpoints / "checkpoint-6" / "manifest.json").unlink()
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "checkpoint-6 was not completed: it is not used" in ended.log
    assert "training begins at checkpoint-4" in ended.log
    assert (job.curve(), job.weights()) == expected(2)


@pytest.mark.parametrize(("resume", "begins"), [("checkpoint-4", "checkpoint-4"), ("never", "the beginning")])
def test_resume_by_name(interrupted: Any, expected: Any, resume: str, begins: str) -> None:
    """R43."""
    job = interrupted
    job.config["checkpoint"]["resume"] = resume
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert f"training begins at {begins}" in ended.log
    assert (job.curve(), job.weights()) == expected(2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the output of a job of three epochs is kept that has a checkpoint of each of its twelve steps."""
    return tmp_path_factory.mktemp("finished") / "output"


@pytest.fixture
def three_epochs(make_job: Any, finished: Path) -> Any:
    """A job that has all its checkpoints, and whose output is to be made again."""
    job = make_job(method="sft")
    job.config["training"] |= {"maxSteps": None, "numTrainEpochs": 3, "warmupSteps": 24, "learningRate": 3.0}
    job.config["training"] |= {"perDeviceTrainBatchSize": 4, "gradientAccumulationSteps": 2}
    job.config["checkpoint"] |= {"saveSteps": 1, "saveTotalLimit": 20}
    job.config["evaluation"]["evalSteps"] = 1
    if not finished.exists():
        ended = job.run()
        assert ended.exit_codes == [0, 0], ended.failures
        shutil.move(job.output, finished)
    shutil.copytree(finished, job.output)
    for name in ("manifest.json", "results.json", "model.safetensors"):
        (job.output / name).unlink()
    return job


@pytest.mark.parametrize("resume", ["epoch-2", "best", "checkpoint-6"])
def test_d19_resume_by_epoch_by_the_best_and_within_the_second_epoch(
    three_epochs: Any, finished: Path, resume: str
) -> None:
    """R43: each stands for another checkpoint, and leads to the same end, with micro batches that are accumulated."""
    job = three_epochs
    best = json.loads((finished / "trainer_state.json").read_text())["best_global_step"]
    steps = {"epoch-2": 8, "best": best, "checkpoint-6": 6}
    assert len(set(steps.values()) | {12}) == 4, f"{steps}: the case does not test what it is for"
    curve = job.curve()
    job.config["checkpoint"]["resume"] = resume
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert f"training begins at checkpoint-{steps[resume]}" in ended.log
    assert job.curve() == curve
    assert job.weights() == hashlib.sha256((finished / "model.safetensors").read_bytes()).hexdigest()


def test_a_job_cut_off_after_its_last_step_makes_no_further_step(make_job: Any, expected: Any) -> None:
    job = eight_steps(make_job())
    assert job.run().exit_codes == [0, 0]
    for name in ("manifest.json", "results.json", "model.safetensors"):
        (job.output / name).unlink()
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-8" in ended.log
    assert job.results()["steps"] == 8
    assert (job.curve(), job.weights()) == expected(2)


def test_a_full_disk_ends_the_job_with_its_last_checkpoint_whole(make_job: Any, expected: Any) -> None:
    """A limit on the size of rank 0's files stands for the disk: writing ends in the middle of one."""
    job = eight_steps(make_job())
    running = job.start()
    running.until(lambda heartbeat: heartbeat.step >= 3)
    resource.prlimit(running.processes[0].pid, resource.RLIMIT_FSIZE, (400_000, 400_000))
    ended = running.end()

    assert ended.exit_codes[0] == 75, ended.failures
    assert f"{job.checkpoints} cannot be written" in ended.failures[0].message
    assert "disk is not full" in ended.failures[0].hint
    assert (job.checkpoints / "checkpoint-2" / "manifest.json").exists()
    assert job.run().exit_codes == [0, 0]
    assert (job.curve(), job.weights()) == expected(2)


def test_a_checkpoint_that_is_not_there_is_named(make_job: Any) -> None:
    job = make_job()
    job.config["checkpoint"]["resume"] = "checkpoint-99"
    ended = job.run()

    assert ended.own_exit_codes == {66}
    assert "no checkpoint that checkpoint.resume 'checkpoint-99' stands for" in ended.failures[0].message


def test_a_checkpoint_of_other_ranks_is_rejected(interrupted: Any) -> None:
    job = interrupted
    job.hosts = "127.0.0.1 slots=1\n"
    ended = job.run()

    assert ended.exit_codes == [64]
    assert "checkpoint-6 has the parts of 2 ranks, and this job runs on 1" in ended.failures[0].message
