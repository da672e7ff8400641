"""A probe of a model that fails is made again less and less often, and says how often it failed."""

from __future__ import annotations

from datetime import timedelta

from tests.unit.kubernetes.test_objects_kept import JOB, KEY, NOW, Scene, played
from zerotune_operator.backends.kubernetes.backend import KubernetesBackend
from zerotune_operator.backends.kubernetes.model_probe import probe_model
from zerotune_operator.backends.kubernetes.objects import COMPONENT_LABEL, Object
from zerotune_operator.backends.kubernetes.owned import OwnedObjects
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_trainer.counting import counted

SECONDS = 3600


def test_a_failing_probe_is_not_360_pods_an_hour() -> None:
    async def act(scene: Scene) -> None:
        made, message = await _reconcile_for_an_hour(scene)
        assert 6 <= made <= 12
        assert any(f"failed {counted(number, 'time')} in a row" in message for number in (made - 1, made))

    played(act)


def test_an_operator_that_starts_anew_goes_on_counting() -> None:
    async def act(scene: Scene) -> None:
        await _reconcile_for_an_hour(scene)
        scene.cache.children(KEY).probes_failed = 0
        assert "failed 1 time " not in await _probe(scene)

    played(act)


async def _reconcile_for_an_hour(scene: Scene) -> tuple[int, str]:
    """Every ten seconds; each pod fails at once. How many Jobs were made, and the last message."""
    made, message = 0, ""
    scene.objects.known["/api/v1/namespaces/default/events"] = {"items": [], "metadata": {}}
    for seconds in range(0, SECONDS, 10):
        scene.now = NOW + timedelta(seconds=seconds)
        scene.objects.asked.clear()
        message = await _probe(scene)
        made += scene.objects.asked.count("POST jobs")
        _watch(scene)
    return made, message


async def _probe(scene: Scene) -> str:
    backend: KubernetesBackend = scene.backend
    cluster = backend._cluster  # What a reconcile would have.
    found = await probe_model(JOB, OwnedObjects(JOB, cluster), cluster, "s3://mmm/m", None)
    assert isinstance(found, Awaited)
    return found.message


def _watch(scene: Scene) -> None:
    """What the watches report: a Job that is deleted, and a pod of a new one that has failed."""
    known = scene.cache.children(KEY)
    for name, job in list(known.jobs.items()):
        if job["metadata"]["labels"][COMPONENT_LABEL] != "inspection":
            continue
        if not any(path.endswith(f"/jobs/{name}") for path in scene.objects.known):
            known.delete_job(name, job["metadata"]["uid"])
        elif not any(pod["metadata"]["uid"] == job["metadata"]["uid"] for pod in known.pods.values()):
            known.upsert_pod("probe", _failed_pod(job, scene))


def _failed_pod(job: Object, scene: Scene) -> Object:
    metadata = job["metadata"]
    state = {"terminated": {"exitCode": 75, "reason": "Error", "finishedAt": scene.now.isoformat()}}
    return {
        "metadata": {
            "name": "probe",
            "uid": metadata["uid"],
            "resourceVersion": str(int(scene.now.timestamp())),
            "labels": metadata["labels"],
            "ownerReferences": [{"kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}],
        },
        "spec": {},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "trainer", "state": state}]},
    }
