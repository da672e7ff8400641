"""cpt, then sft of its output, then inference with that, all applied at once."""

from __future__ import annotations

import json

import pytest

from tests.e2e.chain import Chain
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_each_job_waits_for_the_one_before(chain: Chain) -> None:
    for name, awaited in (("ftj/sft", "FineTuneJob"), ("ij/ask", "FineTuneJob")):
        early = chain.at_first[name]
        [running] = [each for each in early["conditions"] if each["type"] == "Running"]
        assert (early["phase"], running["reason"]) == ("Pending", "ModelAwaited")
        assert awaited in running["message"]
    cpt, sft, ask = (chain.at_last[name] for name in ("ftj/cpt", "ftj/sft", "ij/ask"))
    assert cpt["completionTime"] <= sft["startTime"] < sft["completionTime"] <= ask["startTime"]


def test_the_second_stage_starts_from_the_output_of_the_first(chain: Chain, namespace: Namespace) -> None:
    config = namespace.get(f"configmap/{namespace.attempt('sft')}")["data"]["config.json"]
    uri = "file:///mnt/pvc/cwe/output/cpt"
    assert json.loads(config)["model"]["uri"] == uri
    origin = {"field": "model.fromFineTuneJob", "kind": "FineTuneJob", "name": "cpt", "uri": uri}
    assert json.loads(config)["origins"] == [origin]


def test_every_record_is_answered_exactly_once_and_in_order(chain: Chain, volume: Volume) -> None:
    asked = volume.records("data/questions.jsonl")
    answered = volume.records("output/ask/part-*.jsonl")
    assert [each["question"] for each in answered] == [each["question"] for each in asked]
    assert all(each["answer"] for each in answered)
    progress = chain.at_last["ij/ask"]["progress"]
    assert (progress["step"], progress["total"]) == (len(asked), len(asked))


def test_the_jobs_of_a_chain_have_one_attempt_each(chain: Chain) -> None:
    for status in chain.at_last.values():
        assert _outcomes(status) == ["Succeeded"]


def _outcomes(status: Object) -> list[str]:
    return [attempt["outcome"] for attempt in status["attempts"]]
