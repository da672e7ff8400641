"""The objects of a job on a cluster.

`ZEROTUNE_UPDATE_GOLDEN=1 pytest tests/unit/kubernetes/test_render.py` writes the expected files again.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kubernetes.rendering import (
    CASES,
    GOLDEN,
    INSTALLATION,
    as_yaml,
    attempt_of,
    fine_tune_job,
    inference_job,
    job_of,
    pod_spec,
    rendered,
    secret_keys,
    trainer,
    tuned,
)
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.kubernetes.layout import host_names
from zerotune_operator.backends.kubernetes.network import network_policy
from zerotune_operator.backends.kubernetes.objects import attempt_name, inspection_name, service_name
from zerotune_operator.backends.kubernetes.pod_policy import PodPolicy
from zerotune_operator.backends.kubernetes.pod_template import inspection_template
from zerotune_operator.backends.kubernetes.render import Manifests, Object, render_inspection
from zerotune_trainer.errors import ConfigurationError

_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)
# Names that look like those of another job's objects.
_ALIKE = st.sampled_from(["x", "x-i", "x-a", "x-a0", "x-i0", "x-a-inspect", "x-i-inspect", "ij-x", "ftj-x"])
_JOBS = st.builds(
    lambda job, name, uid: job.model_copy(
        update={"metadata": job.metadata.model_copy(update={"name": name, "uid": str(uid)})}
    ),
    st.sampled_from([fine_tune_job(), inference_job()]),
    _NAMES | _ALIKE,
    st.uuids(),
)


def objects(attempt: Manifests) -> list[Object]:
    return [*attempt.shared, attempt.secret, attempt.job]


@pytest.mark.parametrize("case", CASES)
def test_objects_are_as_written_down(case: str) -> None:
    inspection = render_inspection(job_of(case), CASES[case][1], INSTALLATION)
    actual = as_yaml([*objects(rendered(case)), inspection])
    expected = GOLDEN / "kubernetes" / f"{case}.yaml"
    if os.environ.get("ZEROTUNE_UPDATE_GOLDEN"):
        expected.write_text(actual)
    assert actual == expected.read_text()


@pytest.mark.parametrize("case", CASES)
def test_the_same_job_is_rendered_alike(case: str) -> None:
    assert rendered(case) == rendered(case)


@given(_JOBS, st.integers(0, 9999))
def test_names_are_what_the_api_server_takes(job: Job, attempt: int) -> None:
    labels = host_names(None, _with_nodes(job, 4096), attempt)[-1].split(".")
    assert labels[0] == f"{attempt_name(job, attempt)}-4095"
    assert all(len(label) <= 63 for label in [*labels, inspection_name(job)])
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", label) for label in labels)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service_name(job)), "a Service is an RFC 1035 label"


@given(_JOBS, _JOBS)
def test_no_two_jobs_share_an_object_whatever_their_names(one: Job, other: Job) -> None:
    """Nor does a job that is deleted and applied again: a kubelet keeps what an object of a name had once."""

    def names(job: Job) -> set[tuple[str, str]]:
        jobs = {("Job", attempt_name(job, 0)), ("Job", inspection_name(job))}
        return {("Service", service_name(job)), *jobs}

    same = (one.kind, one.metadata.uid) == (other.kind, other.metadata.uid)
    assert same or not names(one) & names(other)


def test_a_plan_without_a_uid_shows_where_the_hash_will_be() -> None:
    job = fine_tune_job("x" * 52)
    named = job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": ""})})
    assert attempt_name(named, 0) == f"{'x' * 43}-xxxxxxxx-a0"


@pytest.mark.parametrize("case", CASES)
def test_pods_know_whose_they_are_by_what_comes_with_them(case: str) -> None:
    made = rendered(case)
    metadata = made.job["spec"]["template"]["metadata"] | {"uid": "p"}
    variables = {
        each["name"]: each["valueFrom"] for each in trainer(made.job)["env"] if each["name"].startswith("ZEROTUNE_")
    }
    config = json.loads(made.shared[2]["data"]["config.json"])
    expected = {
        "ZEROTUNE_JOB_UID": config["job"]["uid"],
        "ZEROTUNE_ATTEMPT": "0",
        "ZEROTUNE_CONFIG_DIGEST": made.job["metadata"]["annotations"]["zerotune.dev/config-digest"],
        "ZEROTUNE_HOST_INDEX": None,
    }
    assert {name: _field_of(metadata, source) for name, source in variables.items()} == expected


def _field_of(metadata: Object, source: Object) -> str | None:
    """What the downward API gives of a pod's labels and annotations; the index comes from the Job controller."""
    section, name = re.fullmatch(r"metadata\.(\w+)\['(.*)'\]", source["fieldRef"]["fieldPath"]).groups()  # type: ignore[union-attr]
    found: str | None = metadata[section].get(name)
    return found


def test_pods_of_the_hosts_network_ask_the_cluster_for_names() -> None:
    def policy(**pod: Any) -> str | None:
        allowed = replace(INSTALLATION, pod_policy=PodPolicy(host_namespaces=("hostNetwork",)))
        job = fine_tune_job(backend={"kubernetes": {"pod": {"spec": pod}}})
        made: str | None = inspection_template(job, "s3://mmm/m", allowed)["spec"].get("dnsPolicy")
        return made

    assert policy() is None
    assert policy(hostNetwork=True) == "ClusterFirstWithHostNet"
    assert policy(hostNetwork=True, dnsPolicy="None") == "None"


def _with_nodes(job: Job, nodes: int) -> Job:
    topology = job.spec.topology.model_copy(update={"nodes": nodes})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"topology": topology})})


@pytest.mark.parametrize("make", [fine_tune_job, inference_job])
def test_pods_have_the_names_of_the_hostfile(make: Any) -> None:
    """A pod of an Indexed Job has the host name `JOB-INDEX`, and its Service's name as domain."""
    attempt = attempt_of(make(topology={"nodes": 2}), "s3://mmm/m", attempt=3)
    service, name = attempt.shared[0]["metadata"]["name"], attempt.job["metadata"]["name"]
    assert pod_spec(attempt.job)["subdomain"] == service
    hosts = [f"{name}-{index}.{service}.default.svc" for index in (0, 1)]
    assert [line.split()[0] for line in attempt.shared[2]["data"]["hostfile"].splitlines()] == hosts


def test_selectors_find_every_pod_of_the_job_and_no_other() -> None:
    attempt, other = tuned(attempt=3), attempt_of(inference_job("tune"), "s3://mmm/m")
    service, policy, _ = attempt.shared
    for selector in (service["spec"]["selector"], policy["spec"]["podSelector"]["matchLabels"]):
        assert selector.items() <= attempt.job["spec"]["template"]["metadata"]["labels"].items()
        assert not selector.items() <= other.job["spec"]["template"]["metadata"]["labels"].items()
    inspection = render_inspection(fine_tune_job(), "s3://mmm/m", INSTALLATION)
    assert not service["spec"]["selector"].items() <= inspection["spec"]["template"]["metadata"]["labels"].items()


def test_a_claim_is_mounted_once_and_read_only_unless_it_is_written_to() -> None:
    job = tuned(
        model={"uri": "pvc://models/base"},
        data={"train": {"uris": ["pvc://data/a", "pvc://data/b", "s3://ddd/c.jsonl"]}},
        checkpoint={"uri": "pvc://scratch/c"},
        output={"uri": "pvc://models/out"},
    ).job
    mounts = {each["mountPath"]: each.get("readOnly", False) for each in trainer(job)["volumeMounts"]}
    found = {path: mounts[path] for path in mounts if path.startswith("/mnt/pvc/")}
    assert found == {"/mnt/pvc/data": True, "/mnt/pvc/models": False, "/mnt/pvc/scratch": False}


def test_the_output_of_another_job_is_mounted_where_the_model_is_one() -> None:
    """Whether it is named as the spec does, or as pods read it."""
    job = inference_job(model={"fromFineTuneJob": "base"})
    for uri in ("pvc://models/base", "file:///mnt/pvc/models/base"):
        for made in (attempt_of(job, uri).job, render_inspection(job, uri, INSTALLATION)):
            mounts = trainer(made)["volumeMounts"]
            assert {"name": "claim-0", "mountPath": "/mnt/pvc/models", "readOnly": True} in mounts


@pytest.mark.parametrize("claim", ["", "Models", "..", "-a", "a_b"])
def test_what_is_no_name_of_a_claim_is_rejected(claim: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"pvc://{claim}/m names the claim {claim!r}")):
        tuned(model={"uri": f"file:///mnt/pvc/{claim}/m"})


def test_shared_memory_is_half_of_the_memory_unless_its_size_is_given() -> None:
    def size(**spec: Any) -> str | None:
        volumes = {each["name"]: each for each in pod_spec(tuned(**spec).job)["volumes"]}
        limit: str | None = volumes["shared-memory"]["emptyDir"].get("sizeLimit")
        return limit

    own = {"kubernetes": {"sharedMemory": "1Gi"}}
    assert size() is None
    assert size(topology={"memory": "64Gi"}) == str(32 << 30)
    assert size(topology={"memory": "64Gi"}, backend=own) == "1Gi"


def test_nothing_is_asked_of_the_cluster_that_the_user_did_not_ask_for() -> None:
    job = tuned().job
    assert trainer(job)["resources"] == {}
    unasked = {"nodeSelector", "priorityClassName", "serviceAccountName", "imagePullSecrets"}
    assert not unasked & pod_spec(job).keys()
    assert "suspend" not in job["spec"]
    assert not secret_keys(job)


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu"])
def test_pods_with_gpus_go_to_nodes_that_are_kept_for_them(resource: str) -> None:
    """Cloud providers taint every node with NVIDIA's GPUs alike, also where they are split."""
    job = tuned(topology={"gpusPerNode": 2, "accelerator": {"resource": resource}}).job
    keys = {each["key"] for each in pod_spec(job)["tolerations"] if each["effect"] == "NoSchedule"}
    assert keys == {"nvidia.com/gpu", resource}
    assert trainer(job)["resources"] == {"requests": {resource: "2"}, "limits": {resource: "2"}}


def test_a_pod_leaves_a_lost_node_in_half_a_minute_as_its_peers_wait_for_it() -> None:
    seconds = {each["key"]: each.get("tolerationSeconds") for each in pod_spec(tuned().job)["tolerations"]}
    assert seconds == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}


def test_tolerations_of_the_user_count_beside_ours_and_before_them() -> None:
    theirs = [
        {"key": "team", "operator": "Exists"},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 5},
    ]
    job = tuned(backend={"kubernetes": {"pod": {"spec": {"tolerations": theirs}}}}).job

    assert [*theirs, pod_spec(tuned().job)["tolerations"][1]] == pod_spec(job)["tolerations"]


def test_a_queue_gets_the_job_suspended() -> None:
    job = tuned(runPolicy={"queue": "night"}).job
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"


def test_the_inspection_of_a_job_needs_no_more_than_its_model() -> None:
    job = fine_tune_job(
        model={"uri": "hf://org/model", "revision": "v2", "credentials": {"secretName": "hub"}},
        data={"train": {"uris": ["pvc://data/a"]}, "credentials": {"secretName": "data"}},
        topology={"gpusPerNode": 8, "accelerator": {"product": "NVIDIA-L4"}, "memory": "1Ti"},
        backend={"kubernetes": {"pod": {"spec": {"containers": [
            {"name": "trainer", "command": ["own"], "args": ["own"], "resources": {"limits": {"rdma/hca": 1}}}
        ]}}}},
    )  # fmt: skip
    made = render_inspection(job, "hf://org/model", INSTALLATION)
    container = trainer(made)
    command = ["tini", "--", "zerotune-inspect", "hf://org/model", "--claims", "/mnt/pvc", "--revision", "v2"]
    assert container["command"] == command
    assert "args" not in container
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    assert secret_keys(made) == {"HF_TOKEN": ("hub", True), "HF_ENDPOINT": ("hub", False)}
    assert {each["name"] for each in pod_spec(made)["volumes"]} == {"tmp", "cache"}
    assert pod_spec(made)["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}


def test_what_a_config_map_cannot_hold_is_rejected() -> None:
    kinds = ["é" * (600 << 10)]
    with pytest.raises(ConfigurationError, match=r"bytes \(config.json 1,2.*, and a ConfigMap holds 1,048,576"):
        tuned(training={"gradientCheckpointing": True, "arguments": {"gradient_checkpointing_kwargs": {"x": kinds}}})


def test_the_folders_that_ranks_write_to_are_volumes() -> None:
    """The root file system is read-only."""
    attempt = tuned()
    cache = json.loads(attempt.shared[2]["data"]["config.json"])["launch"]["cacheDir"]
    mounts = {each["mountPath"]: each for each in trainer(attempt.job)["volumeMounts"]}
    variables = {each["name"]: each["value"] for each in trainer(attempt.job)["env"] if "value" in each}
    assert not {cache, "/tmp", "/dev/shm"} - mounts.keys()
    assert variables["HOME"] in mounts
    assert all(value.startswith((cache, "/tmp")) for value in variables.values())


def test_only_the_operator_and_monitoring_may_ask_the_pods_of_a_job() -> None:
    def askers(**settings: Any) -> list[str]:
        policy = network_policy(fine_tune_job(), 9400, replace(INSTALLATION, **settings))
        own, others = policy["spec"]["ingress"]
        assert own.keys() == {"from"}
        assert [port["port"] for port in others["ports"]] == [9400]
        return [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in others["from"]]

    assert askers() == ["zerotune-system"]
    assert askers(operator_namespace="ml", monitoring_namespaces=("prometheus", "ml")) == ["ml", "prometheus"]
