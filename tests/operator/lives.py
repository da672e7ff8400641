"""A job's life under an operator that is killed: from `kubectl apply` over a restart to Succeeded, and its deletion."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.e2e import stand_in
from zerotune_devtools.harness.api_server import ApiServer, Object, RejectedError, until
from zerotune_devtools.harness.deadly_proxy import MODEL, DeadlyProxy, Never, Write
from zerotune_devtools.harness.host_operator import HostOperator, kubeconfig_of
from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES, PodPolicy

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
KINDS = {
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Pod": "/api/v1/namespaces/{}/pods",
}
_POD = re.compile(r"-[0-9a-f]{8}(-a\d-\d)-[a-z0-9]{5}\b")
"""The name of a pod: a hash of the job's uid is in it, and it ends by chance."""
_HASH = re.compile(r"-[0-9a-f]{8}\b")
NEVER = Never()
NOT_OURS = {"kube-root-ca.crt", "model"}


@dataclass(frozen=True)
class Life:
    """What is left to see at a job's end."""

    status: Object
    """Without what differs from life to life: times, and what is made of the job's uid."""
    events: list[tuple[str, str, str]]
    """Type, reason and message, sorted; pods without the end of their names."""
    objects: list[tuple[str, str]]
    """Kind and name of whatever belongs to the job; a pod by its Job."""
    writes: int
    deaths: list[str]


@dataclass
class Stage:
    """A namespace with a job, and the operators that come and go there."""

    cluster: ApiServer
    namespace: str
    folder: Path
    inspected: bool
    operators: list[HostOperator] = field(default_factory=list)
    """All that were started, the newest last."""
    proxy: DeadlyProxy = field(init=False)
    kubeconfig: Path = field(init=False)

    def start_operator(
        self, lease: str = "zerotune-operator", others: Sequence[str] = (), policy: PodPolicy = ANY_NAMES
    ) -> HostOperator:
        """Start another one, which may be for other namespaces, too."""
        where = (self.folder, self.namespace, self.kubeconfig)
        hub = f"{self.proxy.url}/hub"
        started = HostOperator.start(*where, lease=lease, hub=hub, others=others, policy=policy)
        self.operators.append(started)
        return started

    def kill(self) -> None:
        """What the proxy does to the operator."""
        self.operators[-1].kill()

    async def keep_operator(self) -> None:
        """Start one whenever none is alive. Each has its own Lease: that of a killed one takes its time to run out."""
        while True:
            if not self.operators or not self.operators[-1].is_alive():
                self.start_operator(f"start-{len(self.operators)}")
            await asyncio.sleep(0.1)

    @property
    def job_path(self) -> str:
        return f"/apis/zerotune.dev/v1alpha1/namespaces/{self.namespace}/finetunejobs"

    async def job(self) -> Object:
        return await self.cluster.get(f"{self.job_path}/{stand_in.NAME}")

    async def is_in(self, phase: str) -> bool:
        """Whether the job is in a phase. Fails where it is over and in another one."""
        status = (await self.job()).get("status", {})
        found = status.get("phase")
        assert found == phase or found not in ("Succeeded", "Failed"), status
        return bool(found == phase)

    async def act(self) -> None:
        """The life: the first attempt fails when it has made its steps, the second one does not."""
        await self.begin()
        await self.end_first()
        await self.end_second()

    async def begin(self) -> None:
        """Create the job; returns when it runs."""
        await self.cluster.create(self.job_path, stand_in.job(inspected=self.inspected))
        await self._runs(0)

    async def end_first(self) -> None:
        """Let the first attempt fail; returns when the second one runs."""
        await self.end(0, lambda _: stand_in.failure())
        await self._runs(1)

    async def end_second(self) -> None:
        """Let the second attempt succeed; returns when that is known."""
        await self.end(1, stand_in.completion)
        await until(lambda: self._reached("Succeeded", 1), f"{self.namespace}: Succeeded")
        await until(self._is_seen, f"{self.namespace}: the operator has seen the end")

    async def _runs(self, attempt: int) -> None:
        await until(lambda: self._reached("Running", attempt), f"{self.namespace}: attempt {attempt} runs", 240)

    async def end(self, attempt: int, with_what: Callable[[str], tuple[int, str]]) -> None:
        """Let an attempt end with the exit code and message that `with_what` makes of its config.json."""
        name = await self.attempt(attempt)
        config = await self.cluster.get(KINDS["ConfigMap"].format(self.namespace) + f"/{name}")
        code, message = with_what(config["data"]["config.json"])
        pods = await self.belongings("Pod", f"?labelSelector=batch.kubernetes.io/job-name={name}")
        assert len(pods) == 1, pods
        path = f"{KINDS['Pod'].format(self.namespace)}/{pods[0]['metadata']['name']}:{stand_in.PORT}/proxy/end/{code}"
        await until(lambda: self._takes(path, message), f"{name}: the pod takes its end")

    async def _takes(self, path: str, message: str) -> bool:
        """Whether a pod that has just started takes a message yet."""
        try:
            await self.cluster.create(path, json.loads(message))
        except RejectedError as error:
            assert error.status == 503, error
            return False
        return True

    async def attempt(self, number: int) -> str:
        """Name of the Job, and of the ConfigMap, of an attempt."""
        labels = f"zerotune.dev/job-uid={(await self.job())['metadata']['uid']},zerotune.dev/attempt={number}"
        [job] = await self.cluster.items(f"{KINDS['Job'].format(self.namespace)}?labelSelector={labels}")
        return str(job["metadata"]["name"])

    async def _reached(self, phase: str, attempt: int) -> bool:
        status = (await self.job()).get("status", {})
        assert status.get("phase") != "Failed", status["rootCause"]
        made_steps = status.get("progress", {}).get("step") == stand_in.STEP
        newest = status["attempts"][-1] if status.get("attempts") else {}
        there = status.get("phase") == phase and newest.get("number") == attempt
        return there and made_steps and newest.get("lastStep") == stand_in.STEP

    async def _is_seen(self) -> bool:
        """Whether an operator that lives has reconciled the job that is over."""
        newest = self.operators[-1]
        return newest.is_alive() and await newest.figure("zerotune_reconciles_total") > 0

    async def belongings(self, kind: str, query: str = "") -> list[Object]:
        """The objects of a kind that are the job's."""
        found = await self.cluster.items(KINDS[kind].format(self.namespace) + query)
        return [each for each in found if each["metadata"]["name"] not in NOT_OURS]

    async def seen(self) -> Life:
        """What there is to see now."""
        job = await self.job()
        events = await self.cluster.items(
            f"/api/v1/namespaces/{self.namespace}/events?fieldSelector=involvedObject.uid={job['metadata']['uid']}"
        )
        reported = sorted((each["type"], each["reason"], _POD.sub(r"\1", each["message"])) for each in events)
        objects = [(kind, _name(each)) for kind in KINDS for each in await self.belongings(kind)]
        return Life(_lasting(job["status"]), reported, sorted(objects), self.proxy.writes, self.proxy.deaths)

    async def delete(self) -> None:
        """Delete the job, and see that everything goes with it."""
        await self.cluster.delete(f"{self.job_path}/{stand_in.NAME}")
        await until(self._is_empty, f"{self.namespace}: everything is deleted")

    async def _is_empty(self) -> bool:
        return not any([await self.belongings(kind) for kind in KINDS])


@asynccontextmanager
async def stage(
    cluster: ApiServer,
    folder: Path,
    is_due: Callable[[Write], bool],
    when: Literal["before", "after"] = "after",
    *,
    inspected: bool = False,
) -> AsyncIterator[Stage]:
    """A namespace for a job, and a way to the API server on which the newest operator dies whenever that is due."""
    made = Stage(cluster, f"life-{uuid.uuid4().hex[:8]}", folder, inspected)
    metadata = {"name": made.namespace, "labels": RESTRICTED}
    await cluster.create("/api/v1/namespaces", {"metadata": metadata})
    model = {"metadata": {"name": "model"}, "data": {"config.json": json.dumps(MODEL), "model.safetensors": ""}}
    await cluster.create(f"/api/v1/namespaces/{made.namespace}/configmaps", model)
    try:
        async with DeadlyProxy(cluster, made.kill, is_due, when) as made.proxy:
            made.kubeconfig = kubeconfig_of(made.proxy.url, folder / f"{made.namespace}.kubeconfig")
            try:
                yield made
            finally:
                for operator in made.operators:
                    operator.end()
    finally:
        await cluster.delete(f"/api/v1/namespaces/{made.namespace}")


async def live(
    cluster: ApiServer,
    folder: Path,
    is_due: Callable[[Write], bool],
    when: Literal["before", "after"] = "after",
    *,
    inspected: bool = False,
) -> Life:
    """A whole life, and the deletion of all of it."""
    async with stage(cluster, folder, is_due, when, inspected=inspected) as there:
        keeper = asyncio.create_task(there.keep_operator())
        try:
            await there.act()
            seen = await there.seen()
            await there.delete()
        finally:
            keeper.cancel()
        return seen


async def on_stage(
    kubeconfig: Path,
    folder: Path,
    act: Callable[[Stage], Awaitable[None]],
    is_due: Callable[[Write], bool] = NEVER,
) -> None:
    """Act in a namespace with an operator's way to the API server."""
    async with ApiServer(kubeconfig) as cluster, stage(cluster, folder, is_due) as there:
        await act(there)


def hash_of(uid: str) -> str:
    """What the names of a job's objects have of its uid."""
    return hashlib.sha256(uid.encode()).hexdigest()[:8]


def expect_a_good_end(life: Life) -> None:
    """Two attempts with one Job and one pod each, and nothing reported twice."""
    assert (life.status["phase"], life.status["restarts"]) == ("Succeeded", 1)
    assert [attempt["outcome"] for attempt in life.status["attempts"]] == ["Failed", "Succeeded"]
    kinds = Counter(kind for kind, name in life.objects if "inspect" not in name)
    assert kinds == {"Service": 1, "NetworkPolicy": 1, "ConfigMap": 2, "Secret": 2, "Job": 2, "Pod": 2}
    assert len(life.events) == len(set(life.events))
    assert {reason for _, reason, _ in life.events} >= {"Planned", "Started", "Restarting", "Succeeded"}


def _name(found: Object) -> str:
    """Its name without the hash of the job's uid; a pod's ends by chance, so that of its Job stands for it."""
    metadata = found["metadata"]
    name = str(metadata.get("labels", {}).get("batch.kubernetes.io/job-name", metadata["name"]))
    return _HASH.sub("", name)


def _lasting(value: Any) -> Any:
    """A status without times, and without what is made of the job's uid."""
    if isinstance(value, list):
        return [_lasting(each) for each in value]
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if not _passes(name)}
    return value


def _passes(name: str) -> bool:
    return name.endswith("Time") or name in ("configDigest", "hosts")
