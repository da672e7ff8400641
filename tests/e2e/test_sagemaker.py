"""`backend.sagemaker` on a cluster: the operator is in a pod, the stand-in of SageMaker and S3 are on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.object_store import REGION, ObjectStore
from tests.e2e.s3_jobs import files, s3_job
from zerotune_devtools.bed.settings import HOST_ADDRESS
from zerotune_devtools.harness.installation import installed
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.sagemaker.server import SageMakerStandIn

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OF_THE_RUN = {"README.md", "metrics.jsonl", "report.html", "results.json", "topology.json", "trainer_state.json"}
"""Files with the job's uid and name, with times, or with the names of hosts."""
BACKEND = {"sagemaker": {"instanceType": "ml.m5.xlarge"}}
ONE = {"nodes": 1, "processesPerNode": 1}


@pytest.fixture(scope="module")
def aws(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SageMakerStandIn]:
    """The stand-in, whose hosts find the store by the variables of this process."""
    folder = tmp_path_factory.mktemp("instances")
    with pytest.MonkeyPatch.context() as patch, SageMakerStandIn(folder, address=HOST_ADDRESS) as stand_in:
        for name, value in store.environment().items():
            patch.setenv(name, value)
        yield stand_in


@pytest.fixture(scope="module")
def jobs(aws: SageMakerStandIn, store: ObjectStore) -> Iterator[Namespace]:
    """A namespace whose jobs may run there."""
    endpoints = ("AWS_ENDPOINT_URL_SAGEMAKER", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS")
    variables = store.environment() | dict.fromkeys(endpoints, aws.endpoint)
    account = "123456789012"
    sagemaker = {
        "enabled": True,
        "namespaces": ["*"],
        "roleArn": f"arn:aws:iam::{account}:role/train",
        "image": f"{account}.dkr.ecr.{REGION}.amazonaws.com/zerotune/sagemaker:0.1.0",
        "region": REGION,
    }
    env = [{"name": name, "value": value} for name, value in variables.items()]
    with installed(sagemaker=sagemaker, operator={"progressIntervalSeconds": 1, "env": env}) as made:
        yield made.jobs


def test_a_job_gives_the_output_that_it_gives_in_pods(
    jobs: Namespace, aws: SageMakerStandIn, store: ObjectStore, on_s3: Object
) -> None:
    jobs.apply(s3_job("on-sagemaker", topology=ONE, backend=BACKEND))
    jobs.apply(s3_job("unwanted", steps=5000, topology=ONE, backend=BACKEND))
    jobs.step("ftj/unwanted", 1)
    jobs.kubectl("delete", "ftj/unwanted", "--timeout=180s")
    status = jobs.phase("ftj/on-sagemaker", "Succeeded")

    assert status["output"]["step"] == on_s3["output"]["step"]
    assert [each["outcome"] for each in status["attempts"]] == ["Succeeded"]
    # It may be over before it is looked at while it runs, which is once a minute.
    assert {"Planned", "Succeeded"} <= {reason for _, reason in jobs.events("on-sagemaker")}
    assert not jobs.list("pods")
    here, there = files(store, "on-s3"), files(store, "on-sagemaker")
    assert here.keys() == there.keys()
    compared = sorted(here.keys() - OF_THE_RUN)
    assert {"model.safetensors", "tokenizer.json"} <= set(compared)
    assert [name for name in compared if _of_any_machine(here[name]) != _of_any_machine(there[name])] == []
    assert len(aws.created) == 2
    assert sorted(job.status for job in aws.jobs.values()) in (["Completed", "Stopping"], ["Completed", "Stopped"])


def _of_any_machine(content: bytes) -> bytes:
    """Without what transformers writes of HF_HUB_OFFLINE, which tests set and pods do not."""
    return content.replace(b'"local_files_only": true', b'"local_files_only": false')
