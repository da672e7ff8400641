"""Preference methods on real ranks: they learn, whatever the ZeRO stage, and a restart computes no reference anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COMPUTED = "computing the reference log-probabilities"
GOOD, BAD = " is known and described.", " was never seen by anyone!"


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory, descriptions: list[str]) -> Path:
    """A folder with `pair.jsonl` and `judged.jsonl`: prompts of many lengths, one good and one bad ending."""
    folder = tmp_path_factory.mktemp("preferences")
    prompts = [f"{text[: 10 + 3 * number]}:" for number, text in enumerate(descriptions[:18])]
    pairs = [{"prompt": prompt, "chosen": GOOD, "rejected": BAD} for prompt in prompts]
    judged = [
        {"prompt": prompt, "completion": BAD if number % 2 else GOOD, "label": number % 2 == 0}
        for number, prompt in enumerate(prompts)
    ]
    for name, records in (("pair", pairs), ("judged", judged)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def make_preference_job(make_job: Any, preferences: Path) -> Any:
    """Make a job of a preference method."""

    def make(method: str, *, stage: int = 2, ranks: int = 2, **preference: Any) -> Any:
        job = make_job(f"{method}-{stage}-{ranks}", method="sft", stage=stage, hosts=f"127.0.0.1 slots={ranks}\n")
        records = preferences / ("judged.jsonl" if method == "kto" else "pair.jsonl")
        job.config |= {"method": method, "preference": preference}
        job.config["data"]["train"] = {"uris": [f"file://{records}"]}
        job.config["training"] |= {"perDeviceTrainBatchSize": 4 // ranks, "maxSteps": 6, "learningRate": 5e-3}
        return job

    return make


def figures(job: Any) -> list[dict[str, float]]:
    """Loss, gradient norm and the method's figures by training record."""
    return [
        {"loss": record["loss"], "gradNorm": record["gradNorm"], **record["metrics"]}
        for record in job.records()
        if "loss" in record
    ]


@pytest.mark.parametrize(("method", "stages"), [("dpo", [0, 2, 3]), ("orpo", [3]), ("kto", [2, 3])])
def test_two_ranks_lose_and_learn_what_one_does(
    make_preference_job: Any, tmp_path: Path, method: str, stages: list[int]
) -> None:
    """Rows that only fill a batch up, of which two ranks take more, change nothing."""
    single = make_preference_job(method, stage=0, ranks=1)
    ended = single.run()
    assert ended.exit_codes == [0], ended.failures
    alone = figures(single)
    assert alone[-1]["rewards/margins"] > alone[0]["rewards/margins"] + 0.05
    assert alone[-1]["loss"] < alone[0]["loss"]
    assert method == "kto" or alone[-1]["rewards/accuracies"] == 1
    for stage in stages:
        job = make_preference_job(method, stage=stage)
        # With a cache of its own it computes the reference anew.
        job.config["launch"]["cacheDir"] = str(tmp_path / f"cache-{stage}")
        ended = job.run()
        assert ended.exit_codes == [0, 0], ended.failures
        assert (COMPUTED in ended.log) == (method != "orpo")
        for ours, theirs in zip(figures(job), alone, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_two_ranks_without_padding_lose_what_one_does_with_it(
    make_preference_job: Any, tmp_path: Path, method: str
) -> None:
    padded = make_preference_job(method, stage=0, ranks=1)
    shared = make_preference_job(method, stage=3)
    shared.config["data"] |= {"paddingFree": True}
    shared.config["launch"]["cacheDir"] = str(tmp_path / "cache")
    for job in (padded, shared):
        job.config["training"] |= {"maxSteps": 3}
        ended = job.run()
        assert set(ended.exit_codes) == {0}, ended.failures
    assert COMPUTED in ended.log
    for ours, theirs in zip(figures(shared), figures(padded), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4, rel=1e-4)


def test_an_adapter_is_optimized_for_preferences_with_its_base_as_the_reference(
    make_preference_job: Any, tmp_path: Path
) -> None:
    """One of the head, too, whose logits are made by rows: two ranks have different numbers of them."""
    curves = []
    for stage, ranks in ((0, 1), (3, 2)):
        job = make_preference_job("dpo", stage=stage, ranks=ranks)
        job.config["adapter"] = {"type": "lora", "targetModules": ["q_proj", "lm_head"]}
        job.config["launch"]["cacheDir"] = str(tmp_path / f"cache-{stage}")
        ended = job.run()
        assert ended.exit_codes == [0] * ranks, ended.failures
        curves.append(figures(job))
    alone, together = curves
    assert alone[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert alone[-1]["rewards/margins"] > 0.01
    for ours, theirs in zip(together, alone, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4, rel=1e-4)


def test_the_reference_is_computed_once(make_preference_job: Any, tmp_path: Path) -> None:
    """A restart that lost its cache finds it beside the checkpoints, another job on other ranks in the cache."""
    job = make_preference_job("dpo", stage=3)
    job.config["launch"]["cacheDir"] = str(tmp_path / "cache")
    job.config["training"]["maxSteps"] = 2
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert COMPUTED in ended.log

    other = make_preference_job("dpo", stage=0, ranks=1, beta=0.5, lossType=["ipo"])
    other.config["launch"]["cacheDir"] = str(tmp_path / "cache")
    ended = other.run()
    assert ended.exit_codes == [0], ended.failures
    assert COMPUTED not in ended.log

    shutil.rmtree(tmp_path / "cache")
    (job.output / "manifest.json").unlink()
    job.config["job"]["attempt"] = 2
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert COMPUTED not in ended.log

    rows = Path(job.config["data"]["train"]["uris"][0].removeprefix("file://"))
    rows.write_text("".join(reversed(rows.read_text().splitlines(keepends=True))))
    (job.output / "manifest.json").unlink()
    job.config["job"]["attempt"] = 3
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert COMPUTED in ended.log
    assert "has log-probabilities of another reference, or of other rows" in " ".join(ended.warnings)


def test_completions_that_are_all_good_are_warned_of(make_preference_job: Any, tmp_path: Path) -> None:
    job = make_preference_job("kto", ranks=1)
    records = [{"prompt": f"Is {number} known?", "completion": GOOD, "label": True} for number in range(8)]
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    job.config["data"]["train"] = {"uris": [f"file://{tmp_path}/good.jsonl"]}
    job.config["training"]["maxSteps"] = 1
    ended = job.run()
    assert ended.exit_codes == [0], ended.failures
    assert any("completions to train on are good" in text for text in ended.warnings)
