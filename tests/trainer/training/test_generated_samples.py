"""Texts generated while a model is trained: the same at every ZeRO stage, and training goes on undisturbed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zerotune_trainer.errors import StoppedError

pytestmark = pytest.mark.slow

PROMPTS = 5
METRIC = "def longest(predictions, references): return {'tokens': max(map(len, predictions)), 'texts': len(references)}"


@pytest.fixture
def make_sampled_job(make_job: Any, corpus: Path, tmp_path: Path) -> Any:
    """Make an sft job that generates texts at each evaluation, three prompts a rank at once at most."""
    (tmp_path / "plugin.py").write_text(METRIC)

    def make(name: str, *, stage: int = 2, ranks: int = 2, **generation: Any) -> Any:
        job = make_job(name, method="sft", stage=stage, hosts=f"127.0.0.1 slots={ranks}\n")
        job.config["training"]["perDeviceTrainBatchSize"] = 4 // ranks
        job.config["plugin"] = {"file": f"file://{tmp_path}/plugin.py"}
        data = {"uris": [f"file://{corpus / 'answers.jsonl'}"]}
        metrics = ["exact_match", "rouge", "longest"]
        generation = {"data": data, "maxSamples": PROMPTS, "maxNewTokens": 12, "metrics": metrics, **generation}
        job.config["evaluation"]["generation"] = generation
        return job

    return make


def samples(job: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.output / "samples.jsonl").read_text().splitlines()]


def test_two_ranks_generate_what_one_does_and_training_is_undisturbed(
    make_sampled_job: Any, make_job: Any, corpus: Path
) -> None:
    alone = make_sampled_job("alone", stage=0, ranks=1)
    ended = alone.run()
    assert ended.exit_codes == [0], ended.log
    plain = make_job("plain", method="sft", stage=3)
    assert plain.run().exit_codes == [0, 0]
    for stage in (2, 3):
        job = make_sampled_job(f"stage-{stage}", stage=stage)
        ended = job.run()
        assert ended.exit_codes == [0, 0], ended.log
        assert samples(job) == samples(alone)
        assert job.losses() == pytest.approx(plain.losses(), rel=1e-5)
    check_output(job, corpus)


def check_output(job: Any, corpus: Path) -> None:
    """The last texts are those of the model of the output, and all figures follow from the texts."""
    found = samples(job)
    assert [each["step"] for each in found] == [step for step in (0, 3, 6) for _ in range(PROMPTS)]
    last = found[-PROMPTS:]
    records = [json.loads(line) for line in (corpus / "answers.jsonl").read_text().splitlines()][:PROMPTS]
    assert [(each["prompt"], each["reference"]) for each in last] == [
        (one["prompt"], one["completion"]) for one in records
    ]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(job.output), AutoTokenizer.from_pretrained(job.output)
    for each in last:
        ids = torch.tensor([tokenizer(each["prompt"])["input_ids"]])
        generated = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        assert tokenizer.decode(generated, skip_special_tokens=True) == each["generation"]
    metrics = job.results()["metrics"]
    assert metrics["generation/longest_tokens"] == max(len(each["generation"]) for each in last)
    assert metrics["generation/longest_texts"] == PROMPTS and metrics["generation/exact_match"] == 0
    assert 0 <= metrics["generation/rougeL"] <= 1
    evaluations = [record for record in job.records() if "evalLoss" in record]
    assert [record["metrics"] for record in evaluations][-1] == metrics
    page = (job.output / "report.html").read_text()
    assert "Generated texts" in page and "generation/rougeL" in page
    assert not (job.output / ".samples").exists()
    assert json.loads((job.output / "generation_config.json").read_text()).get("max_new_tokens") is None


def test_an_adapter_samples_at_random_and_stops_while_it_does(make_sampled_job: Any) -> None:
    """What is drawn is drawn again after the restart."""
    whole, stopped = (
        make_sampled_job(name, stage=3, doSample=True, maxSamples=2, metrics=[]) for name in ("whole", "stopped")
    )
    for job in (whole, stopped):
        job.config["adapter"] = {"type": "lora", "r": 4}
    ended = whole.run()
    assert ended.exit_codes == [0, 0], ended.log

    running = stopped.start()
    running.until(lambda beat: beat.phase == "evaluating" and beat.step == 3)
    running.signal(signal.SIGTERM)
    assert running.end().exit_codes == [StoppedError.exit_code] * 2
    stopped.config["job"]["attempt"] = 1
    ended = stopped.run()
    assert ended.exit_codes == [0, 0], ended.log
    assert samples(stopped) == samples(whole)
    assert stopped.curve() == whole.curve()
