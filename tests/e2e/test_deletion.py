"""A job that is deleted leaves nothing behind, whatever it was doing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.chain import Chain
from zerotune_devtools.harness.jobs import FOLDER, fine_tune_job, one_rank
from zerotune_devtools.harness.kubectl import Namespace
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
_OWNED = "jobs,pods,configmaps,secrets,services,networkpolicies"
_NOWHERE = {"kubernetes": {"pod": {"spec": {"nodeSelector": {"zerotune.dev/no-such": "node"}}}}}
_PENDING, _PLANNED, _RUNNING = "deleted-early", "deleted-planned", "deleted-running"


def _inspected(namespace: Namespace) -> str:
    """A job whose model a pod is about to read: no job has read it before."""
    model = {"uri": f"{FOLDER}/model-of-nobody"}
    namespace.apply(fine_tune_job(_PENDING, model=model, topology=one_rank(), backend=_NOWHERE))
    _until_made(namespace, f"zerotune.dev/job-name={_PENDING},app.kubernetes.io/component=inspection")
    namespace.phase(f"ftj/{_PENDING}", "Pending")
    return f"ftj/{_PENDING}"


def _planned(namespace: Namespace) -> str:
    """A job whose pods have no place to run."""
    # The shape of the model is known from the job that made it: no pod has to read it.
    namespace.apply(fine_tune_job(_PLANNED, model={"fromFineTuneJob": "cpt"}, topology=one_rank(), backend=_NOWHERE))
    namespace.phase(f"ftj/{_PLANNED}", "Planned")
    _until_made(namespace, f"zerotune.dev/job-name={_PLANNED},zerotune.dev/attempt=0")
    return f"ftj/{_PLANNED}"


def _running(namespace: Namespace) -> str:
    training = {"globalBatchSize": 1, "maxSteps": 100000}
    namespace.apply(fine_tune_job(_RUNNING, model={"fromFineTuneJob": "cpt"}, topology=one_rank(), training=training))
    namespace.step(f"ftj/{_RUNNING}", 1)
    return f"ftj/{_RUNNING}"


def _until_made(namespace: Namespace, selector: str) -> None:
    """Wait for a Job with these labels."""
    namespace.until("jobs", lambda _: bool(namespace.list("jobs", selector)))


def _succeeded(namespace: Namespace) -> str:
    return "ij/ask"


@pytest.mark.parametrize("make", [_inspected, _planned, _running, _succeeded], ids=lambda make: make.__name__[1:])
def test_nothing_is_left_of_a_deleted_job(
    make: Callable[[Namespace], str], namespace: Namespace, volume: Volume, chain: Chain
) -> None:
    resource = make(namespace)
    name = resource.partition("/")[2]
    assert namespace.list(_OWNED, f"zerotune.dev/job-name={name}")
    namespace.kubectl("delete", resource, "--timeout=60s")
    namespace.until(resource, lambda _: not namespace.list(_OWNED, f"zerotune.dev/job-name={name}"), seconds=60)
