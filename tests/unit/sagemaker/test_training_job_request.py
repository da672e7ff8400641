"""Every request is one that SageMaker takes, by botocore's own model of the service."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.api.admission_cases import read_cases
from tests.unit.kubernetes.rendering import EXAMPLES
from tests.unit.sagemaker.jobs import ROLE, SETTINGS, sagemaker_job, training_job
from zerotune_devtools.sagemaker.service_model import problems_of
from zerotune_operator.api.load import InvalidManifestError, load_jobs, parse_job
from zerotune_operator.backends.registry import BACKENDS, Target
from zerotune_operator.backends.sagemaker.requirements import require_sagemaker
from zerotune_operator.backends.sagemaker.settings import SageMakerSettings
from zerotune_operator.backends.sagemaker.standalone import OWN_ACCOUNT
from zerotune_trainer.errors import ConfigurationError

NAMES = st.from_regex(r"[a-zA-Z0-9](-{0,2}[a-zA-Z0-9]){0,39}", fullmatch=True).filter(lambda name: len(name) <= 40)
JOB_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=512)
LINE = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"])
TAG = st.characters(codec="utf-8", categories=["L", "N", "Z"], include_characters="_.:/=+@-")
EXPRESSIONS = st.text(LINE, max_size=240).map(lambda text: f"{re.escape(text)}([0-9.]+)")
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "jobNamePrefix": NAMES,
        "volumeSizeGb": st.integers(1, 16384),
        "keepAliveSeconds": st.integers(1, 21600),
        "maxRuntimeSeconds": st.integers(1, 2419200),
        "maxPendingSeconds": st.integers(1800, 2419200),
        "retryAttempts": st.integers(1, 30),
        "encryptTraffic": st.booleans(),
        "infrastructureCheck": st.booleans(),
        "remoteDebug": st.booleans(),
        "volumeKmsKeyId": st.from_regex(r"[a-zA-Z0-9:/_-]{1,99}", fullmatch=True),
        "outputKmsKeyId": st.from_regex(r"[a-zA-Z0-9:/_-]{1,99}", fullmatch=True),
        "environment": st.dictionaries(
            st.from_regex(r"[a-zA-Y_][a-zA-Z0-9_]{0,40}", fullmatch=True), TEXT, max_size=64
        ),
        "tags": st.dictionaries(
            st.tuples(st.sampled_from("bYä東٣"), st.text(TAG, max_size=127)).map("".join),
            st.text(TAG, max_size=256),
            max_size=40,
        ),
        "metricDefinitions": st.dictionaries(st.text(LINE, min_size=1, max_size=255), EXPRESSIONS, max_size=40),
        "experiment": st.fixed_dictionaries({}, optional={"experimentName": NAMES, "runName": NAMES}),
    },
)


@pytest.mark.slow
@settings(max_examples=25)
@given(SPECS, JOB_NAMES, st.sampled_from(["FineTuneJob", "InferenceJob"]), st.integers(0, 9999), st.integers(1, 64))
def test_any_valid_spec_makes_a_valid_request(
    spec: dict[str, Any], name: str, kind: str, attempt: int, nodes: int
) -> None:
    job = training_job(sagemaker_job(kind, name, nodes, **spec), attempt)

    assert problems_of("CreateTrainingJob", job.request) == []
    assert job.name.endswith(f"-{'a' if kind == 'FineTuneJob' else 'i'}{attempt}")
    assert job.request["ResourceConfig"]["InstanceCount"] == nodes
    assert job.files["hostfile"].count("\n") == nodes
    given = {tag["Key"]: tag["Value"] for tag in job.request["Tags"]}
    assert given.items() >= spec.get("tags", {}).items()


@pytest.mark.parametrize("case", [case for case in read_cases("valid.yaml") if case.backend == "sagemaker"], ids=str)
def test_every_accepted_case_makes_a_valid_request(case: Any) -> None:
    installed = SETTINGS.model_copy(update={"roles": ("*",)})
    job = training_job(parse_job(case.manifest), settings=installed)
    assert problems_of("CreateTrainingJob", job.request) == []


def test_the_example_asks_for_spot_instances_and_hands_its_folder_over_on_a_channel() -> None:
    (job,) = load_jobs(EXAMPLES / "sagemaker.yaml")
    made = training_job(job)

    assert problems_of("CreateTrainingJob", made.request) == []
    assert made.request["EnableManagedSpotTraining"] is True
    assert made.request["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400, "MaxWaitTimeInSeconds": 172800}
    (channel,) = made.request["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == f"{made.folder}/"
    assert made.folder.startswith("s3://security-models/log-analyst-spot/.sagemaker/")
    assert sorted(made.files) == ["config.json", "deepspeed.json", "hostfile", "status-uri"]
    assert "config.json" not in str(made.request["Environment"])


@pytest.mark.parametrize(
    ("sagemaker", "place"),
    [
        ({"environment": {"ZEROTUNE_ATTEMPT": "7"}}, "environment.ZEROTUNE_ATTEMPT"),
        ({"environment": {"a-b": "1"}}, "environment.a-b"),
        ({"tags": {"zerotune.dev/job-uid": "other"}}, "tags.zerotune.dev/job-uid"),
        ({"metricDefinitions": {"": "loss ([0-9.]+)"}}, "metricDefinitions."),
        ({"metricDefinitions": {"a" * 256: "loss ([0-9.]+)"}}, "metricDefinitions.aaa"),
        ({"tags": {"aws:owner": "x"}}, "tags.aws:owner"),
        ({"tags": {"équipe;": "x"}}, "tags.équipe;"),
        ({"tags": {"équipe\n": "x"}}, r"tags.équipe\n"),
    ],
)
def test_names_that_are_zerotunes_or_no_names_are_rejected(sagemaker: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidManifestError, match=place):
        require_sagemaker(sagemaker_job(**sagemaker))


def test_metrics_of_the_logs_are_handed_to_sagemaker_as_they_are() -> None:
    metrics = {"train:loss": r"'loss': '?([0-9.]+)"}
    made = training_job(sagemaker_job(metricDefinitions=metrics))
    found = made.request["AlgorithmSpecification"]["MetricDefinitions"]
    assert found == [{"Name": "train:loss", "Regex": r"'loss': '?([0-9.]+)"}]


def test_gpus_that_the_instance_type_does_not_have_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"ml\.g5\.12xlarge has 4 GPUs") as caught:
        training_job(sagemaker_job(instanceType="ml.g5.12xlarge"))
    assert "set topology.gpusPerNode to 4" in caught.value.hint


def test_an_output_uri_that_leaves_no_room_for_the_folder_is_rejected() -> None:
    job = sagemaker_job()
    output = job.spec.output.model_copy(update={"uri": f"s3://bbb/{'p' * 1000}"})
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"output": output})})
    with pytest.raises(ConfigurationError, match="takes URIs below 1024"):
        training_job(job)


@pytest.mark.parametrize(
    ("installed", "sagemaker", "message"),
    [
        (SageMakerSettings(enabled=True, image="i"), {}, "no execution role"),
        (SETTINGS, {"roleArn": "arn:aws:iam::123456789012:role/admin"}, "jobs may not run with the role"),
        (SageMakerSettings(enabled=True, role_arn=ROLE), {}, "no trainer image"),
    ],
)
def test_roles_and_images_are_those_of_the_installation(
    installed: SageMakerSettings, sagemaker: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        training_job(sagemaker_job(**sagemaker), settings=installed)
    assert "of the chart" in caught.value.hint


def test_the_plan_says_what_zerotune_run_needs_besides() -> None:
    facts = BACKENDS[Target.SAGEMAKER].facts
    role, image = (text for _, text in facts(sagemaker_job())[1:])
    assert role.startswith("backend.sagemaker.roleArn: `zerotune run` takes the role of the notebook or of the cred")
    assert image == "backend.sagemaker.image: `zerotune run` needs it; the operator has a default"
    assert facts(sagemaker_job(roleArn=ROLE))[1:] == [("not set", image)]
    assert facts(sagemaker_job(roleArn=ROLE, image=SETTINGS.image))[1:] == []


def test_what_is_missing_without_a_cluster_is_named_by_its_field_of_the_spec() -> None:
    for spec, field in (({"image": SETTINGS.image}, "roleArn"), ({"roleArn": ROLE}, "image")):
        with pytest.raises(ConfigurationError, match=rf"backend\.sagemaker\.{field} is not set") as caught:
            training_job(sagemaker_job(**spec), settings=OWN_ACCOUNT)
        assert caught.value.hint.startswith("set it to the ")
        assert "chart" not in caught.value.hint, "there is none"


def test_other_namespaces_and_switched_off_installations_run_nothing() -> None:
    SETTINGS.require_namespace("default")
    with pytest.raises(ConfigurationError, match="namespace 'other' may not run"):
        SETTINGS.require_namespace("other")
    with pytest.raises(ConfigurationError, match="switched off"):
        SageMakerSettings().require_namespace("default")
