"""A checkpoint that agrees with its manifest and does not load: an older one is used, and the job says which not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.manifest import MANIFEST_NAME, describe, files_of, read_manifest

pytestmark = pytest.mark.slow


def rewrite(checkpoint: Path, pattern: str, change: Callable[[Path], object]) -> Path:
    """Change the first file of a pattern, and give the checkpoint the manifest that belongs to it now."""
    path = sorted(checkpoint.glob(pattern))[0]
    change(path)
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    manifest = manifest.model_copy(update={"files": describe(checkpoint, files_of(checkpoint))})
    (checkpoint / MANIFEST_NAME).write_bytes(manifest.encoded())
    return path


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def without_state(path: Path) -> None:
    """A file that loads, and does not hold what the engine reads from it."""
    import torch

    torch.save({"ds_version": "0.0.0"}, path)


@pytest.mark.parametrize("file", ["global_step6/*optim_states.pt", "rng_state_1.pth", "trainer_state.json"])
def test_a_file_that_does_not_load_sends_all_ranks_to_an_older_checkpoint(
    interrupted: Any, expected: Any, file: str
) -> None:
    job = interrupted
    damaged = rewrite(job.checkpoints / "checkpoint-6", file, cut_off)
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-4" in ended.log
    (skipped,) = job.results()["skippedCheckpoints"]
    assert "checkpoint-6 is damaged" in skipped and f"{damaged.name} does not load" in skipped
    assert skipped in ended.log
    assert (job.curve(), job.weights()) == expected(2)


def test_a_checkpoint_asked_for_by_name_that_does_not_load_is_rejected(interrupted: Any) -> None:
    job = interrupted
    rewrite(job.checkpoints / "checkpoint-6", "global_step6/*optim_states.pt", cut_off)
    job.config["checkpoint"]["resume"] = "checkpoint-6"
    ended = job.run()

    assert ended.own_exit_codes == {64}
    assert "checkpoint-6 is damaged" in ended.failures[0].message
    assert "does not load" in ended.failures[0].message


def test_what_only_the_engine_finds_is_left_as_word_for_the_next_attempt(interrupted: Any, expected: Any) -> None:
    """One rank fails in the engine, while the other may wait for it there: the attempt ends, and once only."""
    job = interrupted
    rewrite(job.checkpoints / "checkpoint-6", "global_step6/*pp_rank_1*optim_states.pt", without_state)
    ended = job.run()

    assert 75 in ended.exit_codes and 0 not in ended.exit_codes, ended.failures
    (failure,) = [failure for failure in ended.failures.values() if failure.exit_code == 75]
    assert "checkpoint-6 does not load" in failure.message and "marked as unusable" in failure.hint
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-4" in ended.log
    (skipped,) = job.results()["skippedCheckpoints"]
    assert "checkpoint-6 is not used: attempt 0 could not load it" in skipped
    assert not (job.checkpoints / "checkpoint-6" / "unusable.json").exists(), "it was written anew"
    assert (job.curve(), job.weights()) == expected(2)


def test_a_damaged_best_state_is_named_before_the_output_is_made_of_it(make_job: Any) -> None:
    job = make_job()
    job.config["training"] |= {"learningRate": 0.6, "maxSteps": 6, "warmupSteps": 24}
    job.config["evaluation"] |= {"evalSteps": 1, "loadBestModelAtEnd": True}
    job.config["checkpoint"] |= {"saveSteps": 100, "saveTotalLimit": 1}
    assert job.run().exit_codes == [0, 0]
    best = job.checkpoints / f"checkpoint-{job.results()['bestStep']}"
    assert best.name != "checkpoint-6", "the case does not test what it is for"
    (job.output / "manifest.json").unlink()
    rewrite(best, "*/*optim_states.pt", cut_off)
    ended = job.run()

    assert ended.own_exit_codes == {64}, ended.failures
    assert f"{best.name}, the state that evaluated best, is damaged" in ended.failures[0].message
