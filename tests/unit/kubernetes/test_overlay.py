"""`backend.kubernetes.pod`: a strategic merge patch over the pods of a job."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kubernetes.rendering import attempt_of, fine_tune_job, pod_spec, secret_keys, trainer, tuned
from zerotune_operator.api.load import load_jobs
from zerotune_operator.backends.kubernetes.merge_keys import MERGE_KEYS
from zerotune_operator.backends.kubernetes.overlay import apply_overlay, merge
from zerotune_operator.backends.kubernetes.render import Object
from zerotune_trainer.errors import ConfigurationError

TEMPLATE: Object = tuned(topology={"gpusPerNode": 1}).job["spec"]["template"]
IDENTITY = ["ZEROTUNE_JOB_UID", "ZEROTUNE_ATTEMPT", "ZEROTUNE_CONFIG_DIGEST", "ZEROTUNE_HOST_INDEX"]

_SCALARS = st.integers() | st.text("ab", max_size=2) | st.booleans()
_NAMES = st.sampled_from(["trainer", "cache", "tmp", "job", "HOME", "a", "b"])


def _items(key: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    item = st.fixed_dictionaries({key: _NAMES}, optional={"one": value, "two": value, "$patch": st.just("merge")})
    removed = st.fixed_dictionaries({key: st.sampled_from(["a", "b", "cache"]), "$patch": st.just("delete")})
    # An entry that a patch names twice is its author's riddle: the API server takes any of the answers.
    return st.lists(item | removed, max_size=3, unique_by=lambda entry: str(entry[key]))


_VALUES = st.recursive(
    _SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
_CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": _NAMES}, optional={"image": _SCALARS, "env": _items("name", _VALUES)}),
    max_size=2,
    unique_by=lambda container: container["name"],
)
_PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({"annotations": st.dictionaries(st.sampled_from("abc"), st.text("x"))}),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "priority": _SCALARS,
                "tolerations": st.lists(_VALUES, max_size=2),
                "nodeSelector": st.dictionaries(st.sampled_from("abc"), st.text("x") | st.none()),
                "affinity": st.dictionaries(st.sampled_from("abc"), _VALUES),
                "volumes": _items("name", _VALUES),
                "containers": _CONTAINERS,
            },
        ),
    },
)


def patched(patch: str) -> Object:
    """The template with a patch written as YAML."""
    return apply_overlay(TEMPLATE, yaml.safe_load(patch), "trainer")


def by_name(items: list[Object], key: str = "name") -> dict[str, Object]:
    return {item[key]: item for item in items}


def test_an_empty_patch_changes_nothing() -> None:
    assert apply_overlay(TEMPLATE, {}, "trainer") == TEMPLATE


@given(_PATCHES)
def test_merging_twice_is_merging_once_and_changes_neither(patch: Object) -> None:
    template, given_patch = copy.deepcopy(TEMPLATE), copy.deepcopy(patch)
    once = merge(template, patch)
    assert merge(once, patch) == once
    assert (template, patch) == (TEMPLATE, given_patch)


@given(_PATCHES)
def test_no_directive_reaches_the_api_server(patch: Object) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return value.keys() | {key for part in value.values() for key in keys(part)}
        return {key for part in value for key in keys(part)} if isinstance(value, list) else set()

    assert not {key for key in keys(merge(TEMPLATE, patch)) if key.startswith("$")}


@given(_PATCHES)
def test_what_the_user_writes_wins(patch: Object) -> None:
    merged = merge(TEMPLATE, patch)["spec"]
    spec = patch.get("spec", {})
    assert all(merged[name] == spec[name] for name in ("priority", "tolerations") if name in spec)
    selector = spec.get("nodeSelector", {})
    assert {name: merged["nodeSelector"].get(name) for name in selector} == selector


@given(st.sampled_from(sorted(MERGE_KEYS)), st.text("xyz", min_size=1))
def test_a_new_item_of_a_keyed_list_leaves_the_others(path: str, name: str) -> None:
    *parents, field = path.removeprefix("spec.").split(".")
    item: Object = dict.fromkeys(MERGE_KEYS[path], name)
    patch: Object = {field: [item]}
    for _ in parents:
        patch = {parents[0]: [{"name": "trainer", **patch}]}
    before, after = TEMPLATE["spec"], merge(TEMPLATE, {"spec": patch})["spec"]
    for parent in parents:
        before, after = (by_name(each.get(parent, [])).get("trainer", {}) for each in (before, after))
    assert after[field] == [*before.get(field, []), item]


def test_a_volume_keeps_only_what_retain_keys_names() -> None:
    spec = patched("spec: {volumes: [{name: cache, $retainKeys: [name, nfs], nfs: {server: s, path: /p}}]}")["spec"]
    assert by_name(spec["volumes"])["cache"] == {"name": "cache", "nfs": {"server": "s", "path": "/p"}}


def test_null_takes_a_field_away() -> None:
    spec = patched("spec: {securityContext: {runAsUser: null}, volumes: [{name: tmp, emptyDir: null}]}")["spec"]
    assert "runAsUser" not in spec["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert by_name(spec["volumes"])["tmp"] == {"name": "tmp"}


def test_directives_delete_and_replace() -> None:
    spec = patched("""
        spec:
          securityContext: {$patch: replace, runAsNonRoot: true}
          containers:
            - name: trainer
              env: [{name: TRITON_CACHE_DIR, $patch: delete}]
              volumeMounts: [{$patch: replace}, {name: own, mountPath: /own}]
    """)["spec"]
    container = by_name(spec["containers"])["trainer"]
    assert spec["securityContext"] == {"runAsNonRoot": True}
    assert [each["name"] for each in container["env"]] == ["HOME", "HF_HOME", *IDENTITY]
    assert container["volumeMounts"] == [{"name": "own", "mountPath": "/own"}]


ABSENT = ["nodeSelector", "affinity", "dnsConfig"]


@pytest.mark.parametrize("field", ABSENT)
def test_a_directive_about_what_is_not_there_adds_nothing(field: str) -> None:
    """The API server drops such a field: replaced by fields of the user's, these would be lost without a word."""
    assert field not in merge({"spec": {}}, {"spec": {field: {"$patch": "delete"}}})["spec"]
    with pytest.raises(
        ConfigurationError, match=rf"spec.{field} has \$patch: replace, and the pod has nothing"
    ) as found:
        merge({"spec": {}}, {"spec": {field: {"$patch": "replace", "a": "b"}}})
    assert "leave `$patch: replace` out" in found.value.hint


def test_an_item_that_would_replace_its_list_and_be_lost_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"spec.volumes has the item .* which the API server drops"):
        patched("spec: {volumes: [{name: cache, $patch: replace, nfs: {server: s, path: /p}}]}")


def test_tolerations_are_replaced_as_a_whole() -> None:
    """`tolerations` has no merge key in the API."""
    assert TEMPLATE["spec"]["tolerations"]
    own: Object = {"spec": {"tolerations": [{"operator": "Exists"}]}}
    assert merge(TEMPLATE, own)["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_tolerations_of_a_job_stay_beside_those_of_another_effect() -> None:
    ours = TEMPLATE["spec"]["tolerations"]
    key = "node.kubernetes.io/unreachable"
    other = {"key": key, "operator": "Exists", "effect": "NoSchedule"}
    same = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 900}
    found = [patched(f"spec: {{tolerations: [{json.dumps(own)}]}}")["spec"]["tolerations"] for own in (other, same)]
    assert found == [[other, *ours], [same, *(each for each in ours if each["key"] != key)]]


@pytest.mark.parametrize("own", [{"configMapRef": {"name": "proxy"}}, {"secretRef": {"name": "keys"}}])
def test_the_keys_of_credentials_stay_beside_the_users_variables(own: Object) -> None:
    made = tuned(
        model={"uri": "s3://mmm/m", "credentials": {"secretName": "keys"}},
        backend={"kubernetes": {"pod": {"spec": {"containers": [{"name": "trainer", "envFrom": [own]}]}}}},
    ).job
    assert trainer(made)["envFrom"] == [own]
    assert secret_keys(made)["AWS_ACCESS_KEY_ID"] == ("keys", True)


@given(st.sampled_from([path for path, keys in MERGE_KEYS.items() if len(keys) > 1]), st.data())
def test_items_that_differ_in_any_key_are_all_kept(path: str, data: st.DataObject) -> None:
    """Two spread constraints over one topology, TCP and UDP of one port."""
    keys, *parents = MERGE_KEYS[path], *path.split(".")[1:-1]
    item = st.fixed_dictionaries({keys[0]: st.sampled_from([1, 2]), keys[1]: st.sampled_from(["A", "B"])})
    items = data.draw(st.lists(item, unique_by=lambda each: (each[keys[0]], each[keys[1]])))
    patch: Object = {path.rpartition(".")[2]: items}
    for _ in parents:
        patch = {parents[0]: [{"name": "new", **patch}]}
    merged = merge({}, {"spec": patch})["spec"]
    found = merged[parents[0]][0] if parents else merged
    assert found[path.rpartition(".")[2]] == items


def test_a_port_without_a_protocol_is_one_of_tcp() -> None:
    (ours,) = trainer(tuned().job)["ports"]
    patch = f"""
        spec:
          containers:
            - name: trainer
              ports: [{{containerPort: {ours["containerPort"]}, hostPort: 1}}, {{containerPort: 9, protocol: UDP}}]
    """
    ports = by_name(patched(patch)["spec"]["containers"])["trainer"]["ports"]
    assert ports == [ours | {"hostPort": 1}, {"containerPort": 9, "protocol": "UDP"}]


@given(st.sampled_from(["nfs", "hostPath", "ephemeral", "persistentVolumeClaim", "emptyDir"]), st.booleans())
def test_a_volume_is_of_one_type_the_users(kind: str, sized: bool) -> None:
    source = {"sizeLimit": "1Gi"} if kind == "emptyDir" and sized else {}
    patch = {"spec": {"volumes": [{"name": "cache", kind: source}]}}
    cache = by_name(apply_overlay(TEMPLATE, patch, "trainer")["spec"]["volumes"])["cache"]
    assert cache.keys() == {"name", kind}
    assert source.items() <= cache[kind].items()


def test_a_variable_has_a_value_or_comes_from_somewhere() -> None:
    patch = """
        spec:
          containers:
            - name: trainer
              env: [{name: HF_HOME, valueFrom: {configMapKeyRef: {name: a, key: b}}}]
    """
    merged = patched(patch)
    variables = by_name(by_name(merged["spec"]["containers"])["trainer"]["env"])
    assert variables["HF_HOME"] == {"name": "HF_HOME", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}
    again = {"spec": {"containers": [{"name": "trainer", "env": [{"name": "HF_HOME", "value": "x"}]}]}}
    variables = by_name(by_name(merge(merged, again)["spec"]["containers"])["trainer"]["env"])
    assert variables["HF_HOME"] == {"name": "HF_HOME", "value": "x"}


def test_a_job_is_rendered_with_its_patch() -> None:
    pod = {"spec": {"containers": [{"name": "trainer", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}]}}
    job = tuned(backend={"kubernetes": {"pod": {**pod, "metadata": {"labels": {"team": "t"}}}}}).job
    assert {"name": "NCCL_DEBUG", "value": "INFO"} in trainer(job)["env"]
    assert job["spec"]["template"]["metadata"]["labels"]["team"] == "t"
    assert "team" not in job["metadata"]["labels"]
    assert pod_spec(job)["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("spec: {restartPolicy: OnFailure}", "spec.restartPolicy cannot be set: a pod that failed is not started anew"),
        ("spec: {subdomain: other}", "spec.subdomain cannot be set: pods find each other by it"),
        ("spec: {subdomain: null}", "spec.subdomain cannot be set: pods find each other by it"),
        ("spec: {hostname: other}", "spec.hostname cannot be set: pods find each other by it"),
        ("spec: {setHostnameAsFQDN: true}", "spec.setHostnameAsFQDN cannot be set: pods know themselves"),
        ("spec: {$patch: replace}", "spec.restartPolicy cannot be set"),
        ("spec: {containers: [{$patch: replace}]}", "spec.containers takes away the container 'trainer'"),
        ("spec: {containers: [{name: trainer, $patch: delete}]}", "spec.containers takes away the container 'trainer'"),
        ("metadata: {labels: {zerotune.dev/attempt: '7'}}", "metadata.labels[zerotune.dev/attempt] is '7', but pods"),
        ("metadata: {labels: {zerotune.dev/job-name: null}}", "metadata.labels[zerotune.dev/job-name] is None, but"),
        ("metadata: {labels: null}", "metadata.labels[app.kubernetes.io/name] is None, but pods are found by it"),
        ("metadata: {annotations: null}", "metadata.annotations[zerotune.dev/config-digest] cannot be set: it"),
        (
            "spec: {containers: [{name: trainer, env: [{name: ZEROTUNE_JOB_UID, value: x}]}]}",
            "spec.containers.env[ZEROTUNE_JOB_UID] cannot be set: it identifies the pod to the launcher",
        ),
        ("spec: {containers: [{name: trainer, env: null}]}", "spec.containers.env[ZEROTUNE_JOB_UID] cannot be set"),
        ("metadata: {name: own}", "metadata.name cannot be set on a pod"),
        ("metadata: null", "metadata is None"),
        ("containers: []", "containers is no part of a pod template"),
        ("spec: []", "spec is []"),
        ("spec: {containers: {name: trainer}}", "spec.containers is {'name': 'trainer'}"),
        ("spec: {containers: [{image: own}]}", "spec.containers has the item {'image': 'own'} without name"),
        ("spec: {volumes: [own]}", "spec.volumes has the item 'own' without name"),
        ("spec: {securityContext: restricted}", "spec.securityContext is 'restricted'"),
        ("spec: {securityContext: {$patch: remove}}", "spec.securityContext has $patch: remove"),
        ("spec: {volumes: [{name: cache, $retainKeys: name}]}", "spec.volumes has $retainKeys: 'name'"),
        ("spec: {$setElementOrder/containers: []}", "spec.$setElementOrder/containers is no directive known here"),
    ],
)
def test_what_breaks_a_job_is_rejected_by_the_name_of_the_field(patch: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"backend.kubernetes.pod.{message}")) as caught:
        patched(patch)
    assert caught.value.hint


def test_null_in_a_manifest_takes_a_field_of_the_pod_away(tmp_path: Path) -> None:
    job = fine_tune_job().model_dump(mode="json", by_alias=True, exclude_unset=True)
    job["spec"]["backend"] = {"kubernetes": {"pod": {"spec": {"securityContext": {"fsGroup": None}}}}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    (read,) = load_jobs(tmp_path / "job.json")

    kept, taken = (pod_spec(attempt_of(each, "s3://mmm/m").job)["securityContext"] for each in (fine_tune_job(), read))

    assert kept.keys() - taken.keys() == {"fsGroup"}
