"""A tenant who may do anything with our kinds, and nothing else, harms nobody and gets nothing more."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import stand_in
from tests.operator.hostile_jobs import RIGHTS, hostile_jobs
from tests.operator.lives import KINDS, Stage, on_stage
from zerotune_devtools.harness.api_server import ApiServer, Object, RejectedError, until
from zerotune_devtools.harness.host_operator import HostOperator
from zerotune_operator.backends.kubernetes.pod_policy import PodPolicy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
OF_STAND_INS = PodPolicy(images=("zerotune.dev/*",))
"""The chart's default, but for the image of the stand-in."""
PROMISED_SECONDS = 10
PLURALS = {"FineTuneJob": "finetunejobs", "InferenceJob": "inferencejobs"}
RULE = {"apiGroups": ["zerotune.dev"], "resources": ["*"], "verbs": ["*"]}
"""All rights over our kinds; the tenant has no other ones."""
HOSTILE_STATUS = {"phase": "Running", "attempts": [{"number": 10**9, "outcome": "Failed"}], "message": "\u202e" * 9}


def test_hostile_jobs_stop_nobody_and_each_says_why_it_does_not_run(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        async with _tenant(kubeconfig, there) as tenant:
            operator = there.start_operator(others=[tenant.namespace], policy=OF_STAND_INS)
            await until(lambda: operator.answers("/readyz"), "the operator is ready")
            await _strangers(there)
            first, (accepted, rejected) = await asyncio.gather(_honest(there, 1), tenant.attack())
            begun = [first, *[await _honest(there, number) for number in (2, 3)]]
            causes = await until(lambda: tenant.causes(accepted), "every hostile job says why")
            assert max(begun) < PROMISED_SECONDS, begun
            assert len(accepted) + len(rejected) >= 40
            assert not RIGHTS.keys() & await tenant.started()
            for name in RIGHTS.keys() & causes.keys():
                assert "podPolicy." in causes[name], (name, causes[name])
            assert await _kinds(operator) <= PLURALS.keys()
            assert there.operators == [operator]
            assert operator.is_alive()

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


@dataclass(frozen=True)
class Tenant:
    """A user with rights over our kinds in a namespace of its own."""

    admin: ApiServer
    api: ApiServer
    """As the user."""
    namespace: str

    def path(self, made: Object) -> str:
        return f"/apis/zerotune.dev/v1alpha1/namespaces/{self.namespace}/{PLURALS[made['kind']]}"

    async def attack(self) -> tuple[dict[str, str], dict[str, str]]:
        """Apply everything: the paths of what the API server accepted, and its answer to the rest, by name."""
        made = hostile_jobs()
        answers = await asyncio.gather(*(self._create(job) for job in made.values()))
        named = list(zip(made, answers, strict=True))
        accepted = {name: answer for name, answer in named if answer.startswith("/")}
        await self.api.patch(f"{accepted['labels-of-ours']}/status", {"status": HOSTILE_STATUS})
        return accepted, {name: answer for name, answer in named if not answer.startswith("/")}

    async def _create(self, job: Object) -> str:
        path = self.path(job)
        try:
            await self.api.create(path, job)
        except RejectedError as error:
            return str(error)[:200]
        except (TypeError, RecursionError, UnicodeError) as error:
            return repr(error)
        return f"{path}/{job['metadata']['name']}"

    async def causes(self, paths: dict[str, str]) -> dict[str, str] | None:
        """Why each of these does not run; None as long as one says nothing."""
        causes = await asyncio.gather(*(self._cause(path) for path in paths.values()))
        return dict(zip(paths, causes, strict=True)) if all(causes) else None

    async def _cause(self, path: str) -> str:
        try:
            job = await self.admin.get(path)
        except RejectedError as error:
            assert error.status == 404
            return "deleted: it named an owner that does not exist"
        status = job.get("status", {})
        if cause := status.get("rootCause"):
            return f"{cause['class']}: {cause['message']} ({cause['hint']})"
        return next((each["message"] for each in status.get("conditions", []) if each["reason"] == "ModelAwaited"), "")

    async def started(self) -> set[str]:
        """The names of jobs that have Jobs."""
        jobs = await self.admin.items(KINDS["Job"].format(self.namespace))
        return {job["metadata"]["labels"]["zerotune.dev/job-name"] for job in jobs}


@asynccontextmanager
async def _tenant(kubeconfig: Path, there: Stage) -> AsyncIterator[Tenant]:
    """A namespace that enforces no Pod Security."""
    name, rbac = f"hostile-{uuid.uuid4().hex[:8]}", "/apis/rbac.authorization.k8s.io/v1/namespaces"
    subject = {"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "ours", "apiGroup": "rbac.authorization.k8s.io"}
    await there.cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        await there.cluster.create(f"{rbac}/{name}/roles", {"metadata": {"name": "ours"}, "rules": [RULE]})
        binding = {"metadata": {"name": "ours"}, "roleRef": reference, "subjects": [subject]}
        await there.cluster.create(f"{rbac}/{name}/rolebindings", binding)
        async with ApiServer(kubeconfig) as api:
            api.session.headers["Impersonate-User"] = "mallory"
            yield Tenant(there.cluster, api, name)
    finally:
        held = f"/apis/zerotune.dev/v1alpha1/namespaces/{name}/finetunejobs/finalizers"
        with suppress(RejectedError):  # It may not have been accepted.
            await there.cluster.patch(held, {"metadata": {"finalizers": None}})
        ours = [f"/apis/zerotune.dev/v1alpha1/namespaces/{name}/{plural}" for plural in PLURALS.values()]
        for path in ours:
            await there.cluster.delete(path)
        await there.cluster.delete(f"/api/v1/namespaces/{name}")


async def _honest(there: Stage, number: int) -> float:
    """Seconds until a job of another tenant has its Job."""
    job = deepcopy(stand_in.job(inspected=False))
    job["metadata"]["name"] = f"honest-{number}"
    since = time.monotonic()
    await there.cluster.create(there.job_path, job)
    await until(lambda: _has_job(there, f"honest-{number}"), f"honest-{number} begins")
    return time.monotonic() - since


async def _has_job(there: Stage, name: str) -> bool:
    jobs = await there.belongings("Job", f"?labelSelector=zerotune.dev/job-name={name}")
    return len(jobs) == 1


async def _strangers(there: Stage) -> None:
    """Jobs with our labels, of kinds that are none."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": stand_in.IMAGE}]}
    for number in range(20):
        labels = {"zerotune.dev/job-name": "x", "zerotune.dev/job-kind": f"Kind{number}"}
        template = {"metadata": {"labels": labels}, "spec": pod | {"schedulingGates": [{"name": "zerotune.dev/held"}]}}
        job = {"metadata": {"name": f"x{number}", "labels": labels}, "spec": {"template": template}}
        await there.cluster.create(KINDS["Job"].format(there.namespace), job)


async def _kinds(operator: HostOperator) -> set[str]:
    """The kinds in the operator's metrics."""
    return set(re.findall(r'kind="([^"]*)"', await operator.answers("/metrics") or ""))
