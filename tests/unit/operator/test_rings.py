"""Jobs that would wait for each other for ever."""

from __future__ import annotations

from typing import Any

import pytest

from zerotune_operator.api.load import parse_job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.model_source import find_model, find_records
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_trainer.errors import ConfigurationError

pytestmark = pytest.mark.anyio
_RECORDS = {"train": {"uris": ["s3://records/a.jsonl"]}}
_MODEL = {"uri": "s3://models/base"}


def tuned(name: str, model: Any = None, data: Any = None, **status: Any) -> dict[str, Any]:
    """A FineTuneJob that starts from these."""
    spec = {"method": "sft", "model": model or _MODEL, "data": data or _RECORDS}
    return _resource("FineTuneJob", name, spec, status)


def asked(name: str, model: str) -> dict[str, Any]:
    """An InferenceJob over the output of a FineTuneJob."""
    spec = {"model": {"fromFineTuneJob": model}, "data": {"uris": ["s3://records/a.jsonl"]}}
    return _resource("InferenceJob", name, spec, {})


def _resource(kind: str, name: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team", "uid": name, "resourceVersion": "1"}
    spec |= {"output": {"uri": f"s3://results/{name}"}}
    return {"apiVersion": "zerotune.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec, "status": status}


async def inputs(job: dict[str, Any], *others: dict[str, Any]) -> list[Any]:
    """What a job starts from, going by the other jobs of its namespace."""
    cache = Cache()
    for each in (job, *others):
        cache.upsert_resource(Key(each["kind"], "team", each["metadata"]["name"]), each)
    parsed = parse_job(job)
    return [await find_model(parsed, JobStatus(), cache, Hub()), find_records(parsed, JobStatus(), cache)]


async def test_a_ring_of_three_fine_tune_jobs_is_rejected_with_its_members() -> None:
    ring = [tuned(name, {"fromFineTuneJob": origin}) for name, origin in ("ab", "bc", "ca")]
    with pytest.raises(
        ConfigurationError, match=r"model\.fromFineTuneJob: 'b' closes a ring .*a.* -> .*b.* -> .*c.* -> "
    ):
        await inputs(*ring)


@pytest.mark.parametrize("part", ["train", "validation"])
async def test_a_ring_through_the_records_of_an_inference_job_is_rejected(part: str) -> None:
    student = tuned("student", data=_RECORDS | {part: {"fromInferenceJob": "teacher"}})
    with pytest.raises(ConfigurationError, match=rf"data\.{part}\.fromInferenceJob: 'teacher' closes a ring"):
        await inputs(student, asked("teacher", "student"))


async def test_a_job_behind_a_ring_and_a_chain_that_forks_wait() -> None:
    behind = tuned("behind", {"fromFineTuneJob": "a"})
    ring = [tuned("a", {"fromFineTuneJob": "b"}), tuned("b", {"fromFineTuneJob": "a"})]
    assert isinstance((await inputs(behind, *ring))[0], Awaited)
    fork = tuned("fork", {"fromFineTuneJob": "base"}, {"train": {"fromInferenceJob": "teacher"}})
    assert all(isinstance(each, Awaited) for each in await inputs(fork, tuned("base"), asked("teacher", "base")))


async def test_a_job_that_has_begun_waits_for_nothing_and_closes_no_ring() -> None:
    running = tuned("b", {"fromFineTuneJob": "a"}, phase="Running")
    assert isinstance((await inputs(tuned("a", {"fromFineTuneJob": "b"}), running))[0], Awaited)
