"""What pods need is as the operator made it: somebody else's edit of a Service or a NetworkPolicy does not last."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e import stand_in
from tests.operator.lives import KINDS
from tests.operator.test_single_reconcile import Scene, on_scene
from zerotune_devtools.harness.api_server import Object
from zerotune_devtools.harness.deadly_proxy import MODEL
from zerotune_operator.api.load import read_job
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.kubernetes.backend import KubernetesBackend
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES
from zerotune_operator.lifecycle.observation import Observation
from zerotune_trainer.sizing.shape import read_shape

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

EDITS: list[tuple[str, Object]] = [
    ("Service", {"spec": {"selector": {"app": "another"}}}),
    ("Service", {"spec": {"publishNotReadyAddresses": None}}),
    ("NetworkPolicy", {"spec": {"ingress": []}}),
    ("NetworkPolicy", {"spec": {"podSelector": {"matchLabels": {"app": "another"}}}}),
]


def test_an_edited_service_and_network_policy_become_what_they_were(kubeconfig: Path) -> None:
    async def act(scene: Scene) -> None:
        now = datetime.now(UTC)
        job = read_job(await scene.create())
        installation = Installation("zerotune.dev/trainer:0.1.0", "Never", pod_policy=ANY_NAMES)
        launchers = Launchers()
        parts = (scene.cache, scene.client, WarningEvents(scene.client), launchers, installation)
        backend = KubernetesBackend(job, Cluster(*parts, lambda: now))
        plan = backend.plan(Inputs("hf://small/model", read_shape(MODEL), {}), 0)
        await backend.apply(backend.render(plan))
        for kind, edit in EDITS:
            made = await _only(scene, kind)
            await scene.cluster.patch(_path(scene, made, kind), edit)
            assert (await _only(scene, kind))["spec"] != made["spec"]
            restored = []
            for _ in range(2):
                now += timedelta(seconds=90)
                await backend.restore(backend.attempt_ref(0, ""), Observation(0, ()), lambda: plan)
                restored.append(await _only(scene, kind))
            assert restored[0]["spec"] == made["spec"]
            # What nobody has edited is not written again.
            assert restored[1]["metadata"]["resourceVersion"] == restored[0]["metadata"]["resourceVersion"]
        await launchers.close()

    asyncio.run(on_scene(kubeconfig, act))


async def _only(scene: Scene, kind: str) -> Object:
    """The object of a kind that the job has."""
    labelled = f"?labelSelector=zerotune.dev/job-name={stand_in.NAME}"
    [found] = await scene.cluster.items(KINDS[kind].format(scene.namespace) + labelled)
    return found


def _path(scene: Scene, made: Object, kind: str) -> str:
    return f"{KINDS[kind].format(scene.namespace)}/{made['metadata']['name']}"
