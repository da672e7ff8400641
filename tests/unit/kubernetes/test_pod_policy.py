"""What a job lays over its pods is judged as it is applied, by the policy that the operator was installed with."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.unit.kubernetes.rendering import CASES, GOLDEN, INSTALLATION, fine_tune_job, job_of
from zerotune_devtools.checkout import ROOT
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import InvalidManifestError
from zerotune_operator.backends.check import check
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES, PodPolicy, read_policy
from zerotune_operator.backends.kubernetes.pod_schema import PATH
from zerotune_operator.backends.kubernetes.pod_template import trainer_template
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.plan import Plan, plan_job
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError

RESTRICTED = Installation(INSTALLATION.trainer_image)
POD = "spec.backend.kubernetes.pod.spec"
SIDECAR = {
    "name": "sidecar",
    "image": INSTALLATION.trainer_image,
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


def trainer(**container: Any) -> dict[str, Any]:
    """A pod whose trainer has these fields."""
    return {"containers": [{"name": "trainer", **container}]}


def context(**fields: Any) -> dict[str, Any]:
    """A pod whose trainer has these fields in its security context."""
    return trainer(securityContext=fields)


def volume(**source: Any) -> dict[str, Any]:
    """A pod with a volume."""
    return {"volumes": [{"name": "extra", **source}]}


KEY = {"secretKeyRef": {"name": "other", "key": "k"}}
TRAINER = f"{POD}.containers[0]"
REJECTED: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"hostNetwork": True}, f"{POD}.hostNetwork", {"hostNamespaces": ["hostNetwork"]}),
    ({"hostPID": True}, f"{POD}.hostPID", {"hostNamespaces": ["hostPID"]}),
    ({"hostIPC": True}, f"{POD}.hostIPC", {"hostNamespaces": ["hostIPC"]}),
    ({"nodeName": "node-1"}, f"{POD}.nodeName", {"nodeNames": ["node-*"]}),
    ({"priorityClassName": "system-node-critical"}, f"{POD}.priorityClassName", {"priorityClasses": ["system-*"]}),
    ({"serviceAccountName": "admin"}, f"{POD}.serviceAccountName", {"serviceAccounts": ["admin"]}),
    ({"serviceAccount": "admin"}, f"{POD}.serviceAccount", {"serviceAccounts": ["admin"]}),
    (
        {"automountServiceAccountToken": True},
        f"{POD}.automountServiceAccountToken",
        {"serviceAccountToken": True},
    ),
    (
        {"automountServiceAccountToken": None},
        f"{POD}.automountServiceAccountToken",
        {"serviceAccountToken": True},
    ),
    (
        volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}),
        "projected.sources[0].serviceAccountToken",
        {"serviceAccountToken": True},
    ),
    (
        volume(projected={"sources": [{"podCertificate": {"keyType": "ED25519", "signerName": "a/b"}}]}),
        "projected.sources[0].podCertificate",
        {"projectedSources": [*PodPolicy().projected_sources, "podCertificate"]},
    ),
    (volume(hostPath={"path": "/"}), ".hostPath", {"volumeTypes": [*PodPolicy().volume_types, "hostPath"]}),
    (volume(nfs={"server": "s", "path": "/"}), ".nfs", {"volumeTypes": [*PodPolicy().volume_types, "nfs"]}),
    (volume(csi={"driver": "d"}), ".csi", {"volumeTypes": [*PodPolicy().volume_types, "csi"]}),
    (volume(secret={"secretName": "other"}), ".secret.secretName", {"secrets": ["other"]}),
    (
        volume(projected={"sources": [{"secret": {"name": "other"}}]}),
        ".projected.sources[0].secret",
        {"secrets": ["other"]},
    ),
    (trainer(env=[{"name": "A", "valueFrom": KEY}]), ".valueFrom.secretKeyRef", {"secrets": ["oth*"]}),
    (trainer(envFrom=[{"secretRef": {"name": "other"}}]), ".envFrom[0].secretRef", {"secrets": ["*"]}),
    (
        {"initContainers": [SIDECAR | {"env": [{"name": "A", "valueFrom": KEY}]}]},
        f"{POD}.initContainers[0].env[0].valueFrom.secretKeyRef",
        {"secrets": ["other"]},
    ),
    ({"imagePullSecrets": [{"name": "other"}]}, f"{POD}.imagePullSecrets[0].name", {"secrets": ["other"]}),
    (trainer(image="evil.example/x"), f"{TRAINER}.image", {"images": ["evil.example/*"]}),
    (
        {"containers": [SIDECAR | {"image": "evil.example/x"}]},
        ".image",
        {"images": ["evil.example/x"]},
    ),
    (trainer(ports=[{"containerPort": 1, "hostPort": 1}]), ".hostPort", {"hostPorts": True}),
    (context(privileged=True), f"{TRAINER}.securityContext.privileged", {"privileged": True}),
    (context(allowPrivilegeEscalation=True), ".allowPrivilegeEscalation", {"privileged": True}),
    (context(allowPrivilegeEscalation=None), ".allowPrivilegeEscalation", {"privileged": True}),
    (context(procMount="Unmasked"), ".procMount", {"privileged": True}),
    (context(appArmorProfile={"type": "Unconfined"}), ".appArmorProfile", {"privileged": True}),
    (context(seccompProfile={"type": "Unconfined"}), ".seccompProfile", {"privileged": True}),
    (context(seLinuxOptions={"type": "spc_t"}), ".seLinuxOptions", {"privileged": True}),
    (context(capabilities={"add": ["SYS_ADMIN"]}), ".capabilities.add", {"capabilities": ["SYS_ADMIN"]}),
    (context(capabilities={"drop": None}), ".capabilities.drop", {"privileged": True}),
    (context(runAsUser=0), ".runAsUser", {"runAsRoot": True}),
    (context(runAsNonRoot=False), ".runAsNonRoot", {"runAsRoot": True}),
    ({"securityContext": {"runAsUser": 0}}, ".runAsUser", {"runAsRoot": True}),
    ({"securityContext": {"seccompProfile": None}}, ".seccompProfile", {"privileged": True}),
    ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, ".sysctls", {"privileged": True}),
    ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, ".windowsOptions", {"privileged": True}),
    ({"containers": [{"name": "sidecar", "image": SIDECAR["image"]}]}, ".capabilities.drop", {"privileged": True}),
    (
        trainer(livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}}),
        f"{TRAINER}.livenessProbe.httpGet.host",
        {"privileged": True},
    ),
    (
        trainer(lifecycle={"preStop": {"httpGet": {"host": "metadata", "port": 80}}}),
        ".preStop.httpGet.host",
        {"privileged": True},
    ),
]
HARMLESS: list[dict[str, Any]] = [
    {},
    {"nodeSelector": {"pool": "gpu"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
    {"containers": [SIDECAR], "initContainers": [SIDECAR | {"name": "first"}]},
    volume(persistentVolumeClaim={"claimName": "data"}),
    volume(configMap={"name": "settings"}),
    volume(projected={"sources": [{"configMap": {"name": "settings"}}, {"downwardAPI": {}}]}),
    trainer(env=[{"name": "NCCL_DEBUG", "value": "INFO"}], resources={"limits": {"rdma/hca": 1}}),
    {"serviceAccountName": "default", "securityContext": {"fsGroup": 1000, "runAsUser": 1000}},
]


@pytest.mark.parametrize(("pod", "field", "values"), REJECTED, ids=[f"{n}{each[1]}" for n, each in enumerate(REJECTED)])
def test_a_pod_is_rejected_with_the_field_and_what_would_allow_it(
    pod: dict[str, Any], field: str, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidManifestError) as rejected:
        _check(pod, RESTRICTED)
    paths = [str(problem).split(" ")[0] for problem in rejected.value.problems]
    assert any(path.endswith(field) for path in paths), rejected.value
    (value,) = values
    assert f"podPolicy.{value}" in rejected.value.message

    _check(pod, Installation(RESTRICTED.trainer_image, pod_policy=read_policy(json.dumps(values))))


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"runAsUser": 0}, "runAsUser"), ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile")],
)
def test_a_field_is_named_where_it_is_given_and_once(fields: dict[str, Any], field: str) -> None:
    shared = {"securityContext": fields, "containers": [SIDECAR]}
    for pod, path in (
        (shared, f"{POD}.securityContext.{field}"),
        (context(**fields), f"{TRAINER}.securityContext.{field}"),
    ):
        with pytest.raises(InvalidManifestError) as rejected:
            _check(pod, RESTRICTED)
        (problem,) = rejected.value.problems
        assert str(problem).startswith(f"{path} is ")


@pytest.mark.parametrize("pod", HARMLESS)
def test_what_harms_nobody_is_allowed_by_default(pod: dict[str, Any]) -> None:
    _check(pod, RESTRICTED)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"model": {"uri": "s3://mmm/m", "credentials": {"secretName": "other"}}}, "spec.model.credentials.secretName"),
        ({"checkpoint": {"credentials": {"secretName": "other"}}}, "spec.checkpoint.credentials.secretName"),
        (
            {"output": {"uri": "pvc://c/o", "credentials": {"secretName": "other"}}},
            "spec.output.credentials.secretName names the Secret 'other'",
        ),
        ({"backend": {"kubernetes": {"serviceAccountName": "admin"}}}, "spec.backend.kubernetes.serviceAccountName"),
        ({"backend": {"kubernetes": {"image": "evil.example/x"}}}, "spec.backend.kubernetes.image"),
        ({"backend": {"kubernetes": {"imagePullSecrets": ["other"]}}}, "spec.backend.kubernetes.imagePullSecrets"),
        ({"runPolicy": {"priorityClass": "high"}}, "spec.runPolicy.priorityClass"),
    ],
)
def test_names_in_fields_of_the_job_itself_are_judged_too(spec: dict[str, Any], field: str) -> None:
    job = fine_tune_job(**spec)
    with pytest.raises(InvalidManifestError) as rejected:
        check(job, "kubernetes", RESTRICTED)
    assert field in rejected.value.message
    check(job, "kubernetes")  # Without a cluster nobody knows which names it allows.


@pytest.mark.parametrize(
    "name", ["k8s.v1.cni.cncf.io/networks", "iam.amazonaws.com/role", "azure.workload.identity/use", "aadpodidbinding"]
)
@pytest.mark.parametrize("place", ["metadata", "pod.metadata"])
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_metadata_that_other_controllers_obey_is_rejected_where_it_is_given(place: str, field: str, name: str) -> None:
    metadata = {"metadata": {field: {name: "x", "example.com/team": "soc"}}}
    job = fine_tune_job(backend={"kubernetes": {"pod": metadata} if place.startswith("pod") else metadata})
    with pytest.raises(InvalidManifestError, match=r"podPolicy\.deniedMetadata") as rejected:
        check(job, "kubernetes", RESTRICTED)
    (problem,) = rejected.value.problems
    assert str(problem).startswith(f"spec.backend.kubernetes.{place}.{field}.{name} is obeyed by other controllers")
    check(job, "kubernetes", Installation(RESTRICTED.trainer_image, pod_policy=PodPolicy(denied_metadata=("*.io/x",))))


_JUDGED = {
    "VolumeProjection": set(PodPolicy().projected_sources) | {"podCertificate", "serviceAccountToken"},
    "PodSecurityContext": {"appArmorProfile", "runAsNonRoot", "runAsUser", "seLinuxOptions", "seccompProfile"}
    | {"sysctls", "windowsOptions"},
    "SecurityContext": {"allowPrivilegeEscalation", "appArmorProfile", "capabilities", "privileged", "procMount"}
    | {"runAsNonRoot", "runAsUser", "seLinuxOptions", "seccompProfile", "windowsOptions"},
    "LifecycleHandler": {"httpGet", "tcpSocket"},
    "Probe": {"httpGet", "tcpSocket"},
}
_HARMLESS_FIELDS = {
    "VolumeProjection": set[str](),
    "PodSecurityContext": {"fsGroup", "fsGroupChangePolicy", "runAsGroup", "seLinuxChangePolicy", "supplementalGroups"}
    | {"supplementalGroupsPolicy"},
    "SecurityContext": {"readOnlyRootFilesystem", "runAsGroup"},
    "LifecycleHandler": {"exec", "sleep"},
    "Probe": {"exec", "failureThreshold", "grpc", "initialDelaySeconds", "periodSeconds", "successThreshold"}
    | {"terminationGracePeriodSeconds", "timeoutSeconds"},
}


@pytest.mark.parametrize("definition", _JUDGED)
def test_a_field_that_a_newer_kubernetes_adds_is_judged_or_known_to_be_harmless(definition: str) -> None:
    schema = json.loads(PATH.read_text())["$defs"][f"io.k8s.api.core.v1.{definition}"]
    assert set(schema["properties"]) == _JUDGED[definition] | _HARMLESS_FIELDS[definition]


def test_everything_that_is_not_allowed_is_reported_at_once() -> None:
    with pytest.raises(InvalidManifestError) as rejected:
        _check({"hostNetwork": True, "hostPID": True, **volume(hostPath={"path": "/"})}, RESTRICTED)
    assert len(rejected.value.problems) == 3


def test_validate_rejects_a_pod_of_the_host_without_a_cluster() -> None:
    job = fine_tune_job(backend={"kubernetes": {"pod": {"spec": {"hostNetwork": True}}}})
    with pytest.raises(InvalidManifestError, match=r"podPolicy\.hostNamespaces: \[hostNetwork\]"):
        check(job, "kubernetes")


@pytest.mark.parametrize("case", CASES)
def test_examples_need_no_more_than_names(case: str) -> None:
    check(job_of(case), "kubernetes", Installation("unknown", pod_policy=ANY_NAMES))


@pytest.mark.parametrize("text", ["[]", "{", '{"hostNamespaces": ["all"]}', '{"secret": ["a"]}', '{"secrets": "a"}'])
def test_a_policy_that_is_none_stops_the_operator_at_its_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="pod policy is not valid"):
        read_policy(text)


def test_the_values_of_the_chart_are_the_default_policy() -> None:
    values = yaml.safe_load((ROOT / "charts" / "zerotune" / "values.yaml").read_text())
    assert read_policy(json.dumps(values["podPolicy"])) == PodPolicy()


def _check(pod: dict[str, Any], installation: Installation) -> None:
    check(fine_tune_job(backend={"kubernetes": {"pod": {"spec": pod}}}), "kubernetes", installation)


def test_the_secret_of_an_attempt_is_allowed_to_its_own_pods_only() -> None:
    template = trainer_template(*_planned(), RESTRICTED)
    (own,) = [
        source["secret"]["name"]
        for each in template["spec"]["volumes"]
        for source in each.get("projected", {}).get("sources", ())
        if "secret" in source
    ]
    with pytest.raises(InvalidManifestError, match="names the Secret"):
        _check(volume(secret={"secretName": own.replace("tune", "other")}), RESTRICTED)


def _planned() -> tuple[Plan, Job]:
    job = fine_tune_job()
    shape = shape_of_file(GOLDEN / "plan" / "models" / "tiny-llama.json")
    identity = JobIdentity(kind=job.kind, name=job.metadata.name, uid=job.metadata.uid, attempt=0)
    return plan_job(job, shape, place(job, 0, "s3://mmm/m"), identity), job
