"""What a tenant may apply to harm others: whole objects by name, none of which any node takes."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tests.e2e import stand_in
from zerotune_devtools.harness.kubectl import Object

_MIB = 1 << 20
_INFERENCE = {
    "model": {"uri": "hf://small/model"},
    "data": {"uris": ["s3://records/a.jsonl"], "columns": {"text": "text"}},
    "topology": {"nodes": 1, "cpu": "10m"},
    "output": {"uri": "s3://answers/a"},
}


def hostile_jobs() -> dict[str, Object]:
    """The objects by name."""
    changes = {**_NUMBERS, **_TEXTS, **_URIS, **_TEMPLATES, **_PODS, **RIGHTS, **_POLICIES, **dict(_deep())}
    made = {name: _job(name, change) for name, change in changes.items()}
    made |= {name: _inference(name, change) for name, change in _INFERENCES.items()}
    for name, metadata in _METADATA.items():
        made[name] = _job(name, {})
        made[name]["metadata"] |= metadata
    # One name of both kinds: their objects must not have the same names.
    return made | {"twin": _job("twin", {}), "twin (InferenceJob)": _inference("twin", {})}


def _job(name: str, change: Object) -> Object:
    """A FineTuneJob whose pod no node takes, with `change` (dotted fields of the spec) made."""
    made = deepcopy(stand_in.job(inspected=False))
    made["metadata"]["name"] = name
    made["spec"]["backend"]["kubernetes"]["pod"]["spec"]["nodeSelector"] = {"nowhere": "true"}
    return _changed(made, change)


def _inference(name: str, change: Object) -> Object:
    made = _job(name, {})
    spec = deepcopy(_INFERENCE) | {"backend": made["spec"]["backend"]}
    return _changed({**made, "kind": "InferenceJob", "spec": spec}, change)


def _changed(made: Object, change: Object) -> Object:
    for field, value in change.items():
        *parents, last = field.split(".")
        part = made["spec"]
        for parent in parents:
            part = part.setdefault(parent, {})
        part[last] = value
    return made


def _nested(levels: int, *, lists: bool = False) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if lists else {"a": value}
    return value


def _deep() -> Iterator[tuple[str, Object]]:
    for levels in (100, 9000):
        yield f"deepspeed-of-{levels}-groups", {"deepspeed": _nested(levels)}
        yield f"deepspeed-of-{levels}-lists", {"deepspeed": {"a": _nested(levels, lists=True)}}
        yield f"overlay-of-{levels}-groups", {"backend.kubernetes.pod.spec.affinity": _nested(levels)}
        yield f"template-arguments-of-{levels}-groups", {"data.chatTemplateKwargs": _nested(levels)}


def _pod(**spec: Any) -> Object:
    return {f"backend.kubernetes.pod.spec.{name}": value for name, value in spec.items()}


def _trainer(**fields: Any) -> Object:
    return _pod(containers=[{"name": "trainer", **fields}])


_NUMBERS: dict[str, Object] = {
    "huge-exponent": {"topology.cpu": "1e999999"},
    "small-exponent": {"topology.memory": "1e-999999"},
    "many-digits": {"topology.memory": f"{'9' * 60}Ei"},
    "exabytes": {"backend.kubernetes.sharedMemory": "9Ei"},
    "many-nodes": {"topology.nodes": 2**31 - 1},
    "no-nodes": {"topology.nodes": -1},
    "nodes-as-float": {"topology.nodes": 1e300},
    "many-gpus": {"topology.gpusPerNode": 10**9},
    "many-steps": {"training.maxSteps": 10**18},
    "large-batch": {"training.globalBatchSize": 2**63 - 1},
    "learning-rate": {"training.learningRate": 1e308},
    "long-deadline": {"runPolicy.activeDeadlineSeconds": 2**62},
    "long-time-to-live": {"runPolicy.ttlSecondsAfterFinished": 2**62},
    "many-restarts": {"runPolicy.maxRestarts": 2**62},
    "long-context": {"data.maxLength": 16777216},
}
_TEXTS: dict[str, Object] = {
    "long-template": {"model.chatTemplate": "x" * _MIB},
    "control-characters": {"data.systemPrompt": "\u0000\u001b[2J\u202e" * 1000},
    "half-of-a-pair": {"data.systemPrompt": "\ud800"},
    "many-uris": {"data.train.uris": [f"s3://records/{index}" for index in range(100_000)]},
    "long-uris": {"data.train.uris": [f"s3://records/{index}/{'x' * 3000}" for index in range(256)]},
    "arguments": {"training.arguments": {"optim_target_modules": [["x"] * 1000], "__class__": "os.system", "": None}},
}
_URIS: dict[str, Object] = {
    "hub-file": {"model.uri": "hf://ORG/M/resolve/main/FILE?x="},
    "hub-parent": {"model.uri": "hf://../../etc"},
    "hub-host": {"model.uri": "hf://user:secret@evil.example/m"},
    "hub-revision": {"model.uri": "hf://small/model", "model.revision": "../../x?y#z"},
    "hub-that-is-none": {"model.uri": "hf://no/model"},
    "node-files": {"data.train.uris": ["file:///../../etc/shadow"]},
    "claim-parent": {"data.train.uris": ["pvc://../x"]},
    "claim-in-capitals": {"output.uri": "pvc://UPPER_case/x"},
    "line-break": {"output.uri": "s3://models/a\nb"},
    "from-itself": {"model": {"fromFineTuneJob": "from-itself"}},
    "from-nothing": {"model": {"fromFineTuneJob": "x" * 253}},
}
_TEMPLATES: dict[str, Object] = {
    "template-that-loops": {"model.chatTemplate": "{% for i in range(10**12) %}{{ i }}{% endfor %}"},
    "template-of-classes": {"model.chatTemplate": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
    "template-that-is-none": {"model.chatTemplate": "{% if %}" + "{{" * 1000},
    "template-of-brackets": {"model.chatTemplate": "{{ " + "(" * 5000 + " }}"},
}
_PODS: dict[str, Object] = {
    "containers-as-text": _pod(containers="trainer"),
    "containers-of-nothing": _pod(containers=[None, 1, []]),
    "containers-twice": _pod(containers=[{"name": "trainer"}, {"name": "trainer"}, {"name": "trainer", "env": [None]}]),
    "directive": _pod(containers=[{"$patch": "replace"}]),
    "keys-kept": {"backend.kubernetes.pod.spec": {"$retainKeys": [{"a": 1}]}},
    "variables": _trainer(env=[{"name": "A", "value": "x" * 100_000}, {"name": "A", "valueFrom": {}}]),
    "many-variables": _trainer(env=[{"name": f"A{index}", "value": "x"} for index in range(5000)]),
    "sections": {"backend.kubernetes.pod": {"status": {}, "spec": [1]}},
}
RIGHTS: dict[str, Object] = {
    "host-network": _pod(hostNetwork=True),
    "host-processes": _pod(hostPID=True),
    "host-files": _pod(volumes=[{"name": "root", "hostPath": {"path": "/"}}]),
    "privileged": _trainer(securityContext={"privileged": True}),
    "root": _pod(securityContext={"runAsUser": 0, "runAsNonRoot": False}),
    "account": _pod(serviceAccountName="admin", automountServiceAccountToken=True),
    "secret": _trainer(envFrom=[{"secretRef": {"name": "others"}}]),
    "secret-of-credentials": {"model.credentials": {"secretName": "others"}},
    "node": _pod(nodeName="node-1"),
    "image": {"backend.kubernetes.image": "evil.example/x"},
    "priority": {"runPolicy.priorityClass": "system-node-critical"},
}
"""What the pod policy is to reject."""
_POLICIES: dict[str, Object] = {
    "queue": {"runPolicy.queue": "../../x\n"},
    "labels": {"backend.kubernetes.metadata": {"labels": {"zerotune.dev/job-uid": "x", "a b": "c d"}}},
    "annotations": {"backend.kubernetes.metadata": {"annotations": {"x": "y" * 250_000}}},
}
_INFERENCES: dict[str, Object] = {
    "prompt": {"data.columns": {"prompt": "{{ range(10**12) | list }}"}},
    "many-tokens": {"generation.maxNewTokens": 2**62},
    "temperature": {"generation.temperature": 1e308},
    "batches": {"zero.stage": 3, "topology.nodes": 100_000},
}
_METADATA: dict[str, Object] = {
    "finalizers": {"finalizers": ["evil.example/forever"]},
    "owners": {"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "kube-system", "uid": "1"}]},
    "labels-of-ours": {"labels": {"zerotune.dev/job-name": "tuned", "zerotune.dev/job-kind": "FineTuneJob"}},
    "many-annotations": {"annotations": {f"a{index}": "x" * 20 for index in range(5000)}},
    "x" * 200: {"labels": {"zerotune.dev/job-uid": "x"}},
    "a.b.c": {},
    "ünïcode": {},
}
