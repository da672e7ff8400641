"""Where the operator reads the shape of a model that only pods can reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zerotune_operator.api.load import parse_job
from zerotune_operator.api.status import Attempt, JobStatus
from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.model_source import Source, find_model, find_records, source_keys
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_operator.plan.outputs import reading_output
from zerotune_trainer.config.adapter import StoredAdapter
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.sizing.model_config import shape_of_file

pytestmark = pytest.mark.anyio
URI = "pvc://models/base"
LLAMA = shape_of_file(Path(__file__).parents[2] / "golden" / "plan" / "models" / "llama-3.1-8b.json")


def shape(context: int) -> ModelShape:
    return LLAMA.model_copy(update={"context": context})


def resource(name: str, created: int, known: ModelShape | None = None, **model: Any) -> dict[str, Any]:
    status = {} if known is None else {"status": {"model": known.model_dump(by_alias=True)}}
    return {
        "apiVersion": "zerotune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": name,
            "resourceVersion": "1",
            "creationTimestamp": f"2026-01-01T00:00:{created:02}Z",
        },
        "spec": {
            "method": "cpt",
            "model": {"uri": URI, **model},
            "data": {"train": {"uris": ["s3://records/*.jsonl"]}},
            "output": {"uri": f"s3://models/{name}"},
        },
        **status,
    }


async def found(asking: dict[str, Any], status: JobStatus, *others: dict[str, Any], namespace: str = "team") -> Any:
    cache = Cache()
    for other in (asking, *others):
        cache.upsert_resource(Key("FineTuneJob", namespace, other["metadata"]["name"]), other)
    return await find_model(parse_job(asking), status, cache, Hub())


async def test_what_the_youngest_job_with_the_same_model_knows_is_taken() -> None:
    others = [resource("older", 1, shape(1)), resource("younger", 3, shape(3)), resource("middle", 2, shape(2))]
    assert await found(resource("asks", 4), JobStatus(), *others) == Source(URI, shape(3))


@pytest.mark.parametrize(
    "other",
    [
        resource("knows-nothing", 1),
        resource("another-model", 1, shape(1), uri="pvc://models/other"),
        resource("other-keys", 1, shape(1), credentials={"secretName": "keys"}),
    ],
    ids=lambda other: other["metadata"]["name"],
)
async def test_what_a_job_knows_of_another_model_is_not_taken(other: dict[str, Any]) -> None:
    assert await found(resource("asks", 2), JobStatus(), other) == Source(URI, None)


async def test_what_is_known_in_another_namespace_is_not_taken() -> None:
    other = resource("knows", 1, shape(1))
    assert await found(resource("asks", 2), JobStatus(), other, namespace="others") == Source(URI, None)


async def test_a_path_in_a_pod_names_another_model_in_every_job() -> None:
    local = {"uri": "file:///model"}
    other = resource("knows", 1, shape(1), **local)
    assert await found(resource("asks", 2, **local), JobStatus(), other) == Source("file:///model", None)


async def test_a_model_that_has_changed_is_read_again_whatever_is_known() -> None:
    changed = JobStatus(model=shape(1), attempts=[Attempt(number=0, failure_class="ModelChanged")])
    failed = changed.model_copy(update={"attempts": [Attempt(number=0, failure_class="Killed")]})
    other = resource("knows", 1, shape(1))

    assert await found(resource("asks", 2), changed, other) == Source(URI, None)
    assert await found(resource("asks", 2), failed, other) == Source(URI, shape(1))


async def test_a_job_that_has_begun_goes_on_from_the_output_of_a_deleted_one() -> None:
    asking = resource("asks", 2)
    asking["spec"]["model"] = {"fromFineTuneJob": "base"}
    assert isinstance(await found(asking, JobStatus()), Awaited)
    begun = JobStatus(model=shape(7), model_uri="pvc://models/base")
    assert await found(asking, begun) == Source("pvc://models/base", shape(7))
    changed = begun.model_copy(update={"attempts": [Attempt(number=0, failure_class="ModelChanged")]})
    assert await found(asking, changed) == Source("pvc://models/base", None), "a pod reads it again"


@pytest.mark.parametrize(
    ("adapter", "known_base", "base"),
    [
        (None, None, None),
        (None, "hf://org/base", None),
        ({"type": "lora"}, None, URI),
        ({"type": "lora"}, "hf://org/base", "hf://org/base"),
        ({"type": "lora", "merge": True}, "hf://org/base", None),
    ],
)
async def test_the_output_of_a_job_is_an_adapter_of_what_it_started_from(
    adapter: dict[str, Any] | None, known_base: str | None, base: str | None
) -> None:
    asking, origin = resource("asks", 2), resource("base", 1, shape(7).model_copy(update={"base_uri": known_base}))
    asking["spec"]["model"] = {"fromFineTuneJob": "base"}
    origin["spec"] |= {"adapter": adapter} if adapter else {}
    output = {"uri": "s3://models/base", "files": 3, "bytes": 9}
    origin["status"] |= {"phase": "Succeeded", "modelUri": URI, "output": output}
    stored = StoredAdapter(r=16, alpha=32) if base else None
    expected = shape(7).model_copy(update={"base_uri": base, "adapter": stored})
    assert await found(asking, JobStatus(), origin) == Source(str(output["uri"]), expected)


async def test_the_output_of_a_script_is_read_and_taken_for_nothing() -> None:
    asking, origin = resource("asks", 2), resource("base", 1, shape(7))
    asking["spec"]["model"] = {"fromFineTuneJob": "base"}
    origin["spec"] |= {"method": "script", "script": {"file": "s3://code/train.py"}}
    output = {"uri": "s3://models/base", "files": 3, "bytes": 9}
    origin["status"] |= {"phase": "Succeeded", "modelUri": URI, "output": output}
    assert await found(asking, JobStatus(), origin) == Source("s3://models/base", None)


def test_a_model_that_another_job_did_not_write_is_named_as_its() -> None:
    asking, missing = resource("asks", 2), InputMissingError("s3://models/base/config.json is not there")
    with pytest.raises(InputMissingError) as caught, reading_output(parse_job(asking), URI):
        raise missing
    assert caught.value is missing, "the job names the model itself"
    asking["spec"]["model"] = {"fromFineTuneJob": "base"}
    with pytest.raises(InputMissingError) as caught, reading_output(parse_job(asking), "s3://models/base"):
        raise missing
    assert caught.value.message.startswith("FineTuneJob base wrote no model (no config.json in s3://models/base): s3:")
    assert "model.fromFineTuneJob" in caught.value.hint


def distilling(**train: Any) -> dict[str, Any]:
    """A FineTuneJob that learns what a teacher answers, and is evaluated on what another one does."""
    student = resource("student", 2)
    student["spec"]["data"] = {
        "train": {"fromInferenceJob": "teacher", **train},
        "validation": {"fromInferenceJob": "examiner"},
    }
    return student


def records(asking: dict[str, Any], status: JobStatus, **phases: str) -> Any:
    """What `asking` learns from, where InferenceJobs of its namespace are in these phases."""
    cache = Cache()
    for name, phase in phases.items():
        status_of = {"phase": phase, "output": {"uri": f"pvc://answers/{name}", "files": 1, "bytes": 1}}
        cause = {"rootCause": {"class": "Data", "message": "q.jsonl:3: not JSON"}} if phase == "Failed" else {}
        key = Key("InferenceJob", "team", name)
        cache.upsert_resource(key, {"metadata": {"resourceVersion": "1"}, "spec": {}, "status": {**status_of, **cause}})
    return find_records(parse_job(asking), status, cache)


def test_the_records_of_other_jobs_are_awaited_one_after_the_other() -> None:
    missing = records(distilling(), JobStatus())
    assert missing == Awaited(
        "DataAwaited",
        "InferenceJob team/teacher is not there: create it, or correct data.train.fromInferenceJob",
    )
    running = records(distilling(), JobStatus(), teacher="Succeeded", examiner="Running")
    assert running == Awaited("DataAwaited", "waits for InferenceJob team/examiner, which is Running")
    found = records(distilling(), JobStatus(), teacher="Succeeded", examiner="Succeeded")
    assert found == {"data.train": "pvc://answers/teacher", "data.validation": "pvc://answers/examiner"}


def test_a_job_whose_records_will_not_come_is_rejected_with_the_reason() -> None:
    with pytest.raises(InputMissingError) as rejected:
        records(distilling(), JobStatus(), teacher="Failed", examiner="Succeeded")
    assert rejected.value.message == (
        "InferenceJob team/teacher, whose output is data.train, failed: q.jsonl:3: not JSON"
    )


def test_a_job_that_has_begun_goes_on_from_the_records_of_deleted_jobs() -> None:
    uris = {"data.train": "pvc://answers/teacher", "data.validation": "pvc://answers/examiner"}
    assert records(distilling(), JobStatus(data_uris=uris)) == uris


def test_a_job_follows_all_that_it_starts_from() -> None:
    student = distilling()
    student["spec"]["model"] = {"fromFineTuneJob": "base"}
    assert source_keys(Key("FineTuneJob", "team", "student"), student) == [
        Key("FineTuneJob", "team", "base"),
        Key("InferenceJob", "team", "teacher"),
        Key("InferenceJob", "team", "examiner"),
    ]


async def checkpoint_of(name: str, other: dict[str, Any]) -> Any:
    asking = resource("asks", 9, uri=None, fromFineTuneJob="trains", checkpoint=name)
    asking["spec"]["model"].pop("uri")
    return await found(asking, JobStatus(), other)


def trains(phase: str, **spec: Any) -> dict[str, Any]:
    known = resource("trains", 1, shape(1))
    known["status"] |= {"phase": phase, "modelUri": URI}
    known["spec"] |= spec
    return known


@pytest.mark.parametrize("phase", ["Running", "Failed"])
async def test_a_checkpoint_is_there_while_a_job_runs_and_when_it_has_failed(phase: str) -> None:
    expected = shape(1).model_copy(update={"checkpoint_base": URI})
    uri = "s3://models/trains/checkpoints/checkpoint-500"
    assert await checkpoint_of("checkpoint-500", trains(phase)) == Source(uri, expected)
    other = trains(phase, checkpoint={"uri": "pvc://steps/trains/"})
    assert (await checkpoint_of("checkpoint-5", other)).uri == "pvc://steps/trains/checkpoint-5"


async def test_a_job_waits_until_one_whose_checkpoint_it_names_has_begun() -> None:
    waits = await checkpoint_of("checkpoint-500", resource("trains", 1))
    assert isinstance(waits, Awaited) and "which has not begun" in waits.message


@pytest.mark.parametrize("spec", [{"adapter": {"type": "lora"}}, {"method": "script"}])
async def test_a_checkpoint_that_holds_no_model_is_rejected(spec: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="its checkpoints are not those of a model"):
        await checkpoint_of("checkpoint-500", trains("Running", **spec))
