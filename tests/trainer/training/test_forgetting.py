"""What a model forgets while it reads the CWE catalogue, and that it forgets less where general text is mixed in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any

import pytest

from tests.trainer.training.training_job import Job

pytestmark = pytest.mark.slow

LIMIT = 0.5


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Documentation of Python, which the package pydoc_data ships: to learn, and held out to control."""
    folder = tmp_path_factory.mktemp("general")
    texts = [topics[name] for name in sorted(topics)][:24]
    parts = {"learned": texts[:16], "control": texts[16:]}
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"doc": text}) + "\n" for text in part))
    return {name: {"uris": [f"file://{folder / name}.jsonl"], "textColumn": "doc"} for name in parts}


@pytest.fixture
def make_reader(make_job: Callable[..., Job], general: dict[str, Any]) -> Callable[..., Job]:
    """Make a job that reads the catalogue, beginning with a model that has read the documentation."""
    knowing = make_job("knowing", hosts="127.0.0.1 slots=1\n")
    knowing.config["data"] = {
        "train": {"uris": general["learned"]["uris"]},
        "columns": {"text": "doc"},
        "maxLength": 128,
    }
    knowing.config["training"] |= {"maxSteps": 60, "perDeviceTrainBatchSize": 16}
    knowing.config["checkpoint"] = {"saveStrategy": "no"}
    assert knowing.run().exit_codes == [0]

    def make(name: str, ranks: int, **data: Any) -> Job:
        job = make_job(name, hosts=f"127.0.0.1 slots={ranks}\n")
        job.config["model"] = {"uri": f"file://{knowing.output}"}
        job.config["data"] |= data
        job.config["training"] |= {"maxSteps": 30, "perDeviceTrainBatchSize": 16 // ranks}
        job.config["checkpoint"] = {"saveSteps": 30}
        control = {"control": general["control"], "maxControlPerplexityIncrease": LIMIT}
        job.config["evaluation"] = {"evalStrategy": "steps", "evalSteps": 10, **control}
        return job

    return make


def perplexities(job: Job) -> list[float]:
    return [record["controlPerplexity"] for record in job.records() if "evalLoss" in record]


def test_a_model_forgets_less_of_what_is_mixed_in(make_reader: Callable[..., Job], general: dict[str, Any]) -> None:
    """Without general text the job ends at its limit, with a checkpoint, and ends there again; with it, it succeeds."""
    bare = make_reader("bare", 1)
    ended = bare.run()
    assert ended.exit_codes == [67]
    before, after = perplexities(bare)
    assert after > before * (1 + LIMIT)
    assert ended.failures[0].failure_class == "Forgetting"
    assert f"is {after:.4g} at step 10, {after / before - 1:.1%} above the {before:.4g}" in ended.failures[0].message
    assert [path.name for path in bare.checkpoints.glob("checkpoint-*")] == ["checkpoint-10"]
    assert not (bare.output / "manifest.json").exists()

    again = bare.run()
    assert (again.exit_codes, again.failures[0].message) == ([67], ended.failures[0].message)
    assert [record["step"] for record in bare.records() if "loss" in record] == list(range(1, 11))

    mixed = make_reader("mixed", 2, replay=general["learned"] | {"share": 0.3})
    ended = mixed.run()
    assert ended.exit_codes == [0, 0], ended.failures
    figures = perplexities(mixed)
    assert figures[0] == pytest.approx(before, rel=1e-4)
    assert max(figures) < after
    results = mixed.results()
    assert (results["firstControlPerplexity"], results["controlPerplexity"]) == (figures[0], figures[-1])
    assert results["evalLoss"] < results["firstEvalLoss"]
    tokens = {name: results["counts"][name]["tokens"] for name in ("train", "replay")}
    assert tokens["replay"] / sum(tokens.values()) == pytest.approx(0.3, abs=0.01)
    reported = [one.progress.control_perplexity for one in ended.heartbeats if one.progress and one.progress.eval_loss]
    assert reported[-1] == figures[-1]
    assert "<figcaption>Control perplexity</figcaption>" in (mixed.output / "report.html").read_text()


def test_an_evaluation_changes_no_step_of_the_training(make_job: Callable[..., Job], general: dict[str, Any]) -> None:
    """Dropout draws the same, whatever is measured between two steps."""
    losses = {}
    for name, evaluation in {
        "unmeasured": {"evalStrategy": "no"},
        "measured": {"evalStrategy": "steps", "evalSteps": 1, "control": general["control"]},
    }.items():
        job = make_job(name, hosts="127.0.0.1 slots=1\n")
        job.config |= {"evaluation": evaluation, "adapter": {"type": "lora", "dropout": 0.5}}
        job.config["training"] |= {"maxSteps": 3, "learningRate": 0.01}
        assert job.run().exit_codes == [0]
        losses[name] = [record["loss"] for record in job.records() if "loss" in record]
    assert len(losses["measured"]) == 3
    assert losses["measured"] == losses["unmeasured"]
