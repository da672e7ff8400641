"""A user who may do anything with FineTuneJobs and InferenceJobs of one namespace, and nothing else."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.operator.lives import KINDS, Stage
from zerotune_devtools.harness.api_server import ApiServer, Object, RejectedError

PLURALS = {"FineTuneJob": "finetunejobs", "InferenceJob": "inferencejobs"}
RULE = {"apiGroups": ["zerotune.dev"], "resources": ["*"], "verbs": ["*"]}


@dataclass(frozen=True)
class Tenant:
    """The user, in a namespace of its own."""

    admin: ApiServer
    api: ApiServer
    """As the user."""
    namespace: str

    def path(self, made: Object) -> str:
        return f"/apis/zerotune.dev/v1alpha1/namespaces/{self.namespace}/{PLURALS[made['kind']]}"

    async def apply(self, jobs: Mapping[str, Object]) -> tuple[dict[str, str], dict[str, str]]:
        """Create all: the paths of what the API server accepted, and its answer to the rest, by name."""
        answers = await asyncio.gather(*(self._create(job) for job in jobs.values()))
        named = list(zip(jobs, answers, strict=True))
        accepted = {name: answer for name, answer in named if answer.startswith("/")}
        return accepted, {name: answer for name, answer in named if not answer.startswith("/")}

    async def denied(self) -> set[str]:
        """The kinds of a job's objects that the API server does not let the user create or list."""
        return {kind for kind in KINDS if await self._is_denied(kind)}

    async def _is_denied(self, kind: str) -> bool:
        path = KINDS[kind].format(self.namespace)
        try:
            await self.api.items(path)
        except RejectedError as error:
            listed = error.status
        else:
            return False
        try:
            await self.api.create(path, {"metadata": {"name": "direct"}})
        except RejectedError as error:
            return (listed, error.status) == (403, 403)
        return False

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
async def tenant(kubeconfig: Path, there: Stage, labels: Mapping[str, str] | None = None) -> AsyncIterator[Tenant]:
    """A user with a namespace of these labels: without any, it enforces no Pod Security."""
    name, rbac = f"hostile-{uuid.uuid4().hex[:8]}", "/apis/rbac.authorization.k8s.io/v1/namespaces"
    subject = {"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "ours", "apiGroup": "rbac.authorization.k8s.io"}
    await there.cluster.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": dict(labels or {})}})
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
