"""The shape of a model that only pods can reach: a Job reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import RootCause
from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.objects import ATTEMPT_LABEL
from zerotune_operator.backends.kubernetes.observe import ClusterView, shape_of_inspection
from zerotune_operator.backends.kubernetes.owned import OwnedObjects, created
from zerotune_operator.backends.kubernetes.render import render_inspection
from zerotune_operator.backends.off_loop import off_loop
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 10.0, 600.0
_NO_MODEL = {error.exit_code: error for error in (ConfigurationError, DataError, InputMissingError)}
"""What an inspection ends with that another one would end with, too."""


async def probe_model(
    job: Job, owned: OwnedObjects, cluster: Cluster, model_uri: str, since: datetime | None
) -> ModelShape | Awaited:
    """The shape of a model that only pods can reach, or what the Job that reads it waits for, or failed of: then
    another one is made, after a pause that doubles with every failure.

    Args:
        job: The job that is to start from it.
        owned: Its objects.
        cluster: Where.
        model_uri: The model.
        since: What was read before this time is no longer true.

    Raises:
        ConfigurationError, DataError, InputMissingError: there is no such model.
    """
    known = owned.job_of("inspection")
    if known is not None and since is not None and created(known) < since:
        await cluster.client.delete(known)
        return Awaited("ModelInspection", f"{model_uri} has changed and is read again")
    if known is None:
        wanted = await off_loop(render_inspection, job, model_uri, cluster.installation, owned.probes_failed)
        await owned.make(wanted)
    view = owned.view("inspection")
    found = shape_of_inspection(view)
    if found is None and (events := await owned.events(view, lacks_pods=not view.pods)):
        found = shape_of_inspection(replace(view, events=events))
    if isinstance(found, ModelShape):
        owned.probes_failed = 0
        return found
    if isinstance(found, RootCause) and found.exit_code is not None:
        return await _after_failure(found, view, owned, cluster, model_uri)
    return Awaited("ModelInspection", f"a pod reads the shape of {model_uri}", found)


async def _after_failure(
    cause: RootCause, view: ClusterView, owned: OwnedObjects, cluster: Cluster, model_uri: str
) -> Awaited:
    """Delete the Job that failed, once its pause is over: another one is made at the next reconcile."""
    final = cause.exit_code in _NO_MODEL
    failed = (
        owned.probes_failed + 1 if view.job is None else int(view.job["metadata"]["labels"].get(ATTEMPT_LABEL, "0")) + 1
    )
    pause = min(_PAUSE_SECONDS * 2.0 ** min(failed - 1, 16), _LONGEST_PAUSE_SECONDS)
    if view.job is not None and (final or _seconds_since_end(view, cluster.clock()) >= pause):
        owned.probes_failed = failed
        await cluster.client.delete(view.job)
    if final:
        raise _NO_MODEL[cause.exit_code or 0](cause.message, cause.hint)
    message = f"reading the shape of {model_uri} failed {counted(failed, 'time')} in a row: the next "
    message += f"pod is made after {pause:g} s"
    return Awaited("ModelInspection", message, cause)


def _seconds_since_end(view: ClusterView, now: datetime) -> float:
    """For how long the pod has ended; of one that was deleted, for how long its Job has existed."""
    ended = [end for pod in view.pods if (end := pod_state.ended_at(pod)) is not None]
    since = max(ended) if ended else created(view.job) if view.job else now
    return (now - since).total_seconds()
