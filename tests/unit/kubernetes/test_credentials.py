"""The Secrets of a job reach its ranks key by key."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.unit.kubernetes.rendering import attempt_of, fine_tune_job, inference_job, pod_spec, secret_keys, tuned
from zerotune_operator.backends.kubernetes.render import Object

S3 = {
    "AWS_ACCESS_KEY_ID": True,
    "AWS_SECRET_ACCESS_KEY": True,
    "AWS_SESSION_TOKEN": False,
    "AWS_ENDPOINT_URL": False,
    "AWS_ENDPOINT_URL_S3": False,
    "AWS_REGION": False,
    "AWS_DEFAULT_REGION": False,
}
HUB = {"HF_TOKEN": True, "HF_ENDPOINT": False}


def named(secret: str) -> Object:
    return {"credentials": {"secretName": secret}}


def of(secret: str, keys: dict[str, bool]) -> dict[str, tuple[str, bool]]:
    return {key: (secret, required) for key, required in keys.items()}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"model": {"uri": "hf://a/b", **named("hub")}}, of("hub", HUB)),
        ({"model": {"uri": "s3://mmm/m", **named("keys")}}, of("keys", S3)),
        ({"data": {"train": {"uris": ["file:///d.jsonl", "s3://ddd/*.jsonl"]}, **named("keys")}}, of("keys", S3)),
        (
            {
                "data": {"train": {"uris": ["pvc://c/d"]}, **named("keys")},
                "plugin": {"file": "s3://fff/f.py", "processing": "f"},
            },
            of("keys", S3),
        ),
        ({"checkpoint": {"uri": "s3://ccc/c", **named("keys")}}, of("keys", S3)),
        ({"checkpoint": named("keys"), "output": {"uri": "s3://rrr/r"}}, of("keys", S3)),
        ({"output": {"uri": "s3://rrr/r", **named("keys")}}, of("keys", S3)),
        ({"model": {"uri": "pvc://models/m", **named("keys")}}, {}),
        (
            {"model": {"uri": "hf://a/b", **named("hub")}, "output": {"uri": "s3://rrr/r", **named("keys")}},
            of("hub", HUB) | of("keys", S3),
        ),
    ],
)
def test_ranks_get_the_keys_that_the_uris_take_and_no_other_ones(spec: dict[str, Any], expected: Object) -> None:
    """Every Secret has a key without which the pod waits: the kubelet ignores one that is optional as a whole."""
    made = tuned(**spec).job
    assert secret_keys(made) == expected
    assert "secretRef" not in yaml.safe_dump(made)


def test_of_two_secrets_for_one_scheme_the_later_counts_as_a_whole() -> None:
    """Session token and endpoint belong to the keys that they come with."""
    order = {
        "model": {"uri": "s3://mmm/m", **named("model")},
        "data": {"train": {"uris": ["s3://ddd/d.jsonl"]}, **named("data")},
        "checkpoint": named("checkpoints"),
        "output": {"uri": "s3://rrr/r", **named("output")},
    }
    given: dict[str, Any] = {}
    for part, secret in zip(order, ("model", "data", "checkpoints", "output"), strict=True):
        given |= {part: order[part]}
        assert secret_keys(tuned(**given).job) == of(secret, S3), part


def test_records_of_an_inference_job_are_read_with_their_secret() -> None:
    job = inference_job(data={"uris": ["s3://ddd/d.jsonl"], **named("keys")})
    assert secret_keys(attempt_of(job, str(job.spec.model.uri)).job) == of("keys", S3)


def test_a_users_own_variable_replaces_that_of_a_secret() -> None:
    own = {"name": "AWS_REGION", "value": "eu-central-1"}
    pod = {"spec": {"containers": [{"name": "trainer", "env": [own]}]}}
    made = tuned(model={"uri": "s3://mmm/m", **named("keys")}, backend={"kubernetes": {"pod": pod}}).job
    (container,) = pod_spec(made)["containers"]
    assert [each for each in container["env"] if each["name"] == "AWS_REGION"] == [own]


def test_sidecars_of_a_user_get_no_credentials() -> None:
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    sidecar = {"name": "proxy", "image": "x", "securityContext": context}
    pod = {"spec": {"containers": [sidecar], "initContainers": [sidecar | {"name": "warm"}]}}
    job = fine_tune_job(model={"uri": "s3://mmm/m", **named("keys")}, backend={"kubernetes": {"pod": pod}})
    spec = pod_spec(attempt_of(job, "s3://mmm/m").job)
    others = [each for each in (*spec["containers"], *spec["initContainers"]) if each["name"] != "trainer"]
    assert [each["name"] for each in others] == ["proxy", "warm"]
    assert not any(each.keys() & {"env", "envFrom"} for each in others)
