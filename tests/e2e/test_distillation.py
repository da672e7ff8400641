"""A student learns from the records of its teacher, an InferenceJob of the same namespace, applied at once."""

from __future__ import annotations

import pytest

from zerotune_devtools.harness.jobs import FOLDER, fine_tune_job, inference_job, one_rank
from zerotune_devtools.harness.kubectl import Namespace
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_a_student_waits_for_its_teacher_and_learns_from_the_records_that_have_an_answer(
    namespace: Namespace, volume: Volume
) -> None:
    asked = {"uris": [f"{FOLDER}/data/bad.jsonl"], "columns": {"prompt": "text"}}
    generation = {"maxNewTokens": 2, "skipSpecialTokens": False}
    teacher = inference_job("teacher", data=asked, generation=generation, topology=one_rank())
    student = fine_tune_job(
        "student",
        data={"train": {"fromInferenceJob": "teacher"}, "columns": {"text": "text"}, "maxLength": 64},
        training={"globalBatchSize": 4, "maxSteps": 2, "learningRate": 1e-3},
        topology=one_rank(),
    )
    namespace.apply(teacher, student)
    early = namespace.until("ftj/student", lambda job: "conditions" in job.get("status", {}))["status"]
    assert early["phase"] == "Pending"
    done = namespace.phase("ftj/student", "Succeeded")
    assert done["startTime"] >= namespace.phase("ij/teacher", "Succeeded")["completionTime"]
    records = volume.records("output/teacher/part-*.jsonl")
    failed = [record for record in records if "error" in record]
    counts = volume.json("output/student/results.json")["counts"]["train"]
    assert 0 < len(failed) < len(records), "one is no record, others are too long for the teacher"
    assert (counts["records"], counts["failedRecords"]) == (len(records), len(failed))
