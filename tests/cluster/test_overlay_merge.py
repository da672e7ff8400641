"""Overlays of pods are merged as the API server merges them.

server-side apply       which items of a list are one, by all of their keys
strategic merge patch   null, `$patch`, `$retainKeys`
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.kubernetes.rendering import tuned
from zerotune_devtools import cluster
from zerotune_devtools.harness.api_server import ApiServer, Object, RejectedError
from zerotune_operator.backends.kubernetes.merge_keys import MERGE_KEYS
from zerotune_operator.backends.kubernetes.overlay import merge
from zerotune_trainer.errors import ConfigurationError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
TEMPLATE = tuned(topology={"nodes": 2, "gpusPerNode": 2, "cpu": "2", "memory": "8Gi"}).job["spec"]["template"]
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
APPLY, STRATEGIC = "application/apply-patch+yaml", "application/strategic-merge-patch+json"
Ask = Callable[[str, str, Object, str], Object]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Ask the API server about a PodTemplate `ours`, which holds our template."""
    namespace, loop = f"overlay-{uuid.uuid4().hex[:8]}", asyncio.new_event_loop()
    api = loop.run_until_complete(ApiServer(cluster.up()).__aenter__())

    def asked(method: str, query: str, template: Object, content: str = "application/json") -> Object:
        name = "" if method == "POST" else "/ours"
        path = f"/api/v1/namespaces/{namespace}/podtemplates{name}?{query}"
        body = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "ours"}, "template": template}
        if method == "POST":
            body["metadata"] = {"generateName": "merged-"}
        made: Object = loop.run_until_complete(api.ask(method, path, body, content))["template"]
        return made

    loop.run_until_complete(api.create("/api/v1/namespaces", {"metadata": {"name": namespace}}))
    try:
        asked("PATCH", "fieldManager=zerotune", TEMPLATE, APPLY)
        yield asked
    finally:
        loop.run_until_complete(api.delete(f"/api/v1/namespaces/{namespace}"))
        loop.run_until_complete(api.session.close())
        loop.close()


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    """Objects with some of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def lists(item: st.SearchStrategy[Object], *keys: str) -> st.SearchStrategy[list[Object]]:
    """Lists of items that differ in their keys."""
    return st.lists(item, min_size=1, max_size=3, unique_by=lambda each: tuple(each.get(key) for key in keys))


def keyed(key: str, names: list[str], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    """Items with a key, and some other fields."""
    return st.fixed_dictionaries({key: st.sampled_from(names)}, optional=fields)


TEXTS = st.sampled_from(["a", "b", "c"])
MAPS = st.dictionaries(TEXTS, TEXTS, min_size=1)
TOLERATIONS = st.lists(st.fixed_dictionaries({"key": TEXTS, "operator": st.just("Exists")}), max_size=2)
PORTS = st.fixed_dictionaries(
    {"containerPort": st.sampled_from([9400, 8080]), "protocol": st.sampled_from(["TCP", "UDP"])},
    optional={"hostPort": st.none() | st.just(8080)},
)
SPREAD = st.fixed_dictionaries(
    {
        "topologyKey": st.sampled_from(["zone", "host"]),
        "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
        "maxSkew": st.integers(1, 3),
    }
)
RESOURCES = some(
    requests=some(cpu=TEXTS.map({"a": "1", "b": "2", "c": "500m"}.__getitem__), memory=st.just("1Gi")),
    limits=some(memory=st.just("9Gi")),
)
CONTAINER = {
    "env": lists(keyed("name", ["HOME", "HF_HOME", "NEW"], value=TEXTS), "name"),
    "envFrom": st.lists(st.just({"configMapRef": {"name": "proxy"}}), max_size=1),
    "ports": lists(PORTS.filter(lambda each: each.get("hostPort") is None), "containerPort", "protocol"),
    "volumeMounts": lists(
        st.fixed_dictionaries(
            {"mountPath": st.sampled_from(["/tmp", "/dev/shm", "/new"]), "name": st.sampled_from(["tmp", "cache"])},
            optional={"readOnly": st.booleans(), "subPath": TEXTS},
        ),
        "mountPath",
    ),
    "resources": RESOURCES,
    "command": st.lists(TEXTS, min_size=1, max_size=2),
    "securityContext": some(
        runAsUser=st.integers(1, 9), capabilities=some(add=st.just(["IPC_LOCK"]), drop=st.just(["ALL"]))
    ),
}
"""Fields of a container, by which a patch of it can do no harm."""
OVERLAYS = some(
    metadata=some(labels=MAPS, annotations=MAPS),
    spec=some(
        nodeSelector=MAPS,
        tolerations=TOLERATIONS,
        terminationGracePeriodSeconds=st.integers(1, 9),
        hostAliases=lists(keyed("ip", ["10.0.0.1", "10.0.0.2"], hostnames=st.lists(TEXTS, max_size=2)), "ip"),
        imagePullSecrets=lists(keyed("name", ["a", "b"]), "name"),
        topologySpreadConstraints=lists(SPREAD, "topologyKey", "whenUnsatisfiable"),
        schedulingGates=lists(keyed("name", ["x/a", "x/b"]), "name"),
        securityContext=some(
            fsGroup=st.integers(1, 9), supplementalGroups=st.lists(st.integers(1, 9), min_size=1, max_size=2)
        ),
        volumes=lists(
            keyed("name", ["tmp", "cache", "new"], emptyDir=some(medium=st.just("Memory"), sizeLimit=st.just("1Gi"))),
            "name",
        ),
        containers=lists(
            st.fixed_dictionaries({"name": st.sampled_from(["trainer", "side"])}, optional=CONTAINER), "name"
        ),
        initContainers=lists(
            st.fixed_dictionaries({"name": st.sampled_from(["warm", "fetch"]), "image": TEXTS}, optional=CONTAINER),
            "name",
        ),
        affinity=st.just({"podAntiAffinity": {}}),
        dnsConfig=some(searches=st.lists(TEXTS, max_size=2), options=st.just([{"name": "ndots", "value": "1"}])),
    ),
)


@EXAMPLES
@given(OVERLAYS)
def test_items_are_merged_by_their_keys_as_server_side_apply_does(ask: Ask, patch: Object) -> None:
    patch = _with_images(patch)
    server = ask("PATCH", "fieldManager=user&force=true&dryRun=All", patch, APPLY)
    assert _sorted(ask("POST", "dryRun=All", merge(TEMPLATE, patch), "application/json")) == _sorted(server)


def directed(*items: Object, names: list[Object]) -> st.SearchStrategy[list[Object]]:
    """A patch of a list: items that are deleted, or that take the place of all others."""
    deleted = st.lists(st.sampled_from([each | {"$patch": "delete"} for each in names]), min_size=1, max_size=1)
    return deleted | st.just([{"$patch": "replace"}, *items]) | st.just([*items]) | st.none()


MEMORY = {"emptyDir": {"medium": "Memory"}}
DIRECTED = some(
    metadata=some(labels=st.dictionaries(TEXTS, st.none() | TEXTS), annotations=st.none()),
    spec=some(
        nodeSelector=st.none() | st.just({"$patch": "delete"}),
        affinity=st.none() | st.just({"$patch": "delete"}),
        tolerations=st.none(),
        terminationGracePeriodSeconds=st.none(),
        securityContext=st.none()
        | st.just({"$patch": "replace", "fsGroup": 7})
        | st.just({"fsGroup": None, "seccompProfile": None})
        | st.just({"$retainKeys": ["runAsUser"], "runAsUser": 7}),
        volumes=directed(
            {"name": "new", "configMap": {"name": "x", "optional": True}},
            {"name": "cache", "$retainKeys": ["name", "emptyDir"], **MEMORY},
            names=[{"name": "new"}, {"name": "cache"}],
        ),
        imagePullSecrets=directed({"name": "a"}, names=[{"name": "b"}]),
        containers=st.fixed_dictionaries(
            {"name": st.just("trainer")},
            optional={
                "command": st.none(),
                "env": directed({"name": "HOME", "value": "x"}, names=[{"name": "HOME"}, {"name": "NEW"}]),
                "ports": directed(
                    {"containerPort": 9400, "name": "p", "protocol": "TCP"}, names=[{"containerPort": 9400}]
                ),
                "volumeMounts": directed(
                    {"mountPath": "/tmp", "name": "cache"},
                    names=[{"mountPath": "/tmp"}, {"mountPath": "/zerotune/cache"}],
                ),
                "resources": st.none()
                | st.just({"limits": None})
                | st.just({"requests": {"cpu": None, "memory": "1Gi"}})
                | st.just({"$patch": "replace", "limits": {"memory": "1Gi"}}),
                "securityContext": st.just({"capabilities": {"add": ["IPC_LOCK"]}})
                | st.just({"capabilities": {"drop": None}, "runAsUser": None}),
            },
        ).map(lambda each: [each]),
    ),
)


@EXAMPLES
@given(DIRECTED)
def test_null_and_directives_do_what_a_strategic_merge_patch_does(ask: Ask, patch: Object) -> None:
    server = _outcome(lambda: ask("PATCH", "dryRun=All", patch, STRATEGIC))
    ours = _outcome(lambda: ask("POST", "dryRun=All", merge(TEMPLATE, patch), "application/json"))
    assert ours == server


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeSelector": {"$patch": "replace", "pool": "gpu"}},
        {"affinity": {"$patch": "replace", "podAntiAffinity": {}}},
        {"imagePullSecrets": [{"name": "a", "$patch": "replace"}, {"name": "b"}]},
    ],
)
def test_what_the_api_server_would_drop_without_a_word_is_rejected(ask: Ask, spec: Object) -> None:
    ((field, value),) = spec.items()
    answer = ask("PATCH", "dryRun=All", {"spec": spec}, STRATEGIC)["spec"]
    assert answer.get(field, []) == (value[1:] if isinstance(value, list) else [])
    with pytest.raises(ConfigurationError, match=rf"spec.{field} has "):
        merge(TEMPLATE, {"spec": spec})


def _with_images(patch: Object) -> Object:
    """A patch whose new containers have images, as they must."""
    spec = patch.get("spec", {})
    containers = [each if each["name"] == "trainer" else {"image": "x", **each} for each in spec.get("containers", ())]
    return patch | {"spec": spec | ({"containers": containers} if containers else {})} if spec else patch


def _outcome(asked: Callable[[], Object]) -> Object | str:
    """The template, or that it is rejected."""
    try:
        return _sorted(asked())
    except RejectedError as error:
        assert error.status == 422, error
        return "invalid"


def _sorted(value: Any, path: str = "") -> Any:
    """A template with its keyed lists in the order of their keys."""
    if isinstance(value, dict):
        return {name: _sorted(each, f"{path}.{name}".removeprefix(".")) for name, each in value.items()}
    if path in MERGE_KEYS:
        items = [_sorted(each, path) for each in value]
        return sorted(items, key=lambda each: [str(each.get(key)) for key in MERGE_KEYS[path]])
    return value
