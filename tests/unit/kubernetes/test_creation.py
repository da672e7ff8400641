"""Why the API server creates no pod: every FailedCreate event has a class, the server's message, and a hint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_operator.backends.kubernetes.creation import rejected_pods
from zerotune_operator.backends.kubernetes.waiting import job_waits_for

FORBIDDEN = 'pods "tune-0-x7k2p" is forbidden: '
POLICY = "ValidatingAdmissionPolicy 'signed' with binding 'signed' denied request: quota-team wants a signature"
WEBHOOK = 'Internal error occurred: failed calling webhook "policy.example": failed to call webhook: Post "https://p.ns'
SCC = "unable to validate against any security context constraint: [provider restricted-v2: .spec.securityContext"
RATIO = "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"
LIMIT = 'spec.containers[0].resources.requests: Invalid value: "500m": must be less than or equal to cpu limit of 200m'
TOLERATIONS = (
    "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace tolerations"
)
NODES = "pod node label selector conflicts with its namespace node label selector"
DENIED = 'admission webhook "images.example" denied the request: no exceeded quota here'
ACCOUNT = 'error looking up service account team/trainer: serviceaccount "trainer" not found'
CASES = [
    (FORBIDDEN, POLICY, "Forbidden", "have the policy changed"),
    ("", DENIED, "Forbidden", "have its policy changed"),
    ("", WEBHOOK, "WebhookUnavailable", "does not answer"),
    (FORBIDDEN, SCC, "Forbidden", "SecurityContextConstraints"),
    (FORBIDDEN, RATIO, "Forbidden", "within the ratio"),
    (FORBIDDEN, f"[maximum cpu usage per Pod is 1, but limit is 2, {RATIO}]", "Forbidden", "LimitRange"),
    ('Pod "tune-0-x7k2p" is invalid: ', LIMIT, "Forbidden", "a LimitRange of the namespace sets the limit"),
    (FORBIDDEN, TOLERATIONS, "Forbidden", "tolerationsWhitelist"),
    (FORBIDDEN, NODES, "Forbidden", "node-selector"),
    (FORBIDDEN, ACCOUNT, "MissingReference", "serviceAccountName"),
    (FORBIDDEN, 'pod rejected: RuntimeClass "kata" not found', "MissingReference", "runtimeClassName"),
    (FORBIDDEN, "status unknown for quota: full, resources: pods", "QuotaExceeded", "has yet to count"),
    (FORBIDDEN, "insufficient quota to match these scopes: [{PriorityClass In [a]}]", "QuotaExceeded", "priorityClass"),
    (
        FORBIDDEN,
        "exceeded quota: a, requested: pods=1, used: pods=2, limited: pods=2",
        "QuotaExceeded",
        "topology.nodes",
    ),
    (FORBIDDEN, "failed quota: a: must specify limits.cpu for: trainer", "QuotaExceeded", "resources.limits.cpu"),
    (FORBIDDEN, "a plugin of this cluster minds", "Forbidden", "have it permitted"),
    ('Pod "tune-0-x7k2p" is invalid: ', "spec.hostAliases: Invalid value", "PodCreation", "change what it names"),
    ("", "Post https://10.96.0.1/api/v1/pods: context deadline exceeded", "PodCreation", "tries again"),
]


@pytest.mark.parametrize(("preamble", "reason", "failure_class", "hint"), CASES)
def test_every_rejection_has_a_class_the_servers_message_and_a_hint(
    preamble: str, reason: str, failure_class: str, hint: str
) -> None:
    about = {"involvedObject": {"kind": "Job", "name": "j"}, "reason": "FailedCreate"}
    found = job_waits_for([about | {"message": f"Error creating: {preamble}{reason}"}], "j")
    assert found is not None
    assert (found.failure_class, found.message) == (failure_class, f"no pod can be created: {reason}")
    assert hint in found.hint


@pytest.mark.parametrize(("preamble", "reason", "failure_class", "hint"), CASES)
def test_the_name_of_the_pod_is_no_part_of_the_reason(
    preamble: str, reason: str, failure_class: str, hint: str
) -> None:
    message = f"Error creating: {preamble}{reason}"
    assert rejected_pods(message) == rejected_pods(message.replace("x7k2p", "zz9bb"))


@given(st.text())
def test_an_unknown_message_is_passed_on_with_a_class_and_a_hint(text: str) -> None:
    for message in (text, f"Error creating: {text}", f"Error creating: {FORBIDDEN}{text}"):
        found = rejected_pods(message)
        assert found.failure_class
        assert found.hint
        assert message.endswith(found.message.removeprefix("no pod can be created: "))


@pytest.mark.parametrize(
    ("resource", "remedy"),
    [
        ("limits.cpu", "resources.limits.cpu of the container trainer"),
        ("requests.cpu", "topology.cpu"),
        ("limits.memory", "topology.memory"),
        ("requests.nvidia.com/gpu", "topology.gpusPerNode"),
        ("requests.ephemeral-storage", "requests.ephemeral-storage of the container trainer"),
    ],
)
def test_a_quota_names_the_field_that_decides_its_resource(resource: str, remedy: str) -> None:
    required = rejected_pods(f"Error creating: {FORBIDDEN}failed quota: team: must specify {resource} for: trainer")
    assert f"set {remedy}" in required.hint
    both = f"failed quota: team: must specify limits.memory for: trainer; {resource} for: trainer"
    assert remedy in rejected_pods(f"Error creating: {FORBIDDEN}{both}").hint
    used = f"exceeded quota: team, requested: {resource}=4, used: {resource}=0, limited: {resource}=2"
    assert f"lower {remedy}" in rejected_pods(f"Error creating: {FORBIDDEN}{used}").hint
