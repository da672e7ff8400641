"""The shape of a model that only pods can reach: a Job reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import RootCause
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.observe import shape_of_inspection
from zerotune_operator.backends.kubernetes.owned import OwnedObjects, created
from zerotune_operator.backends.kubernetes.render import render_inspection
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError
from zerotune_trainer.sizing.shape import ModelShape

_NO_MODEL = {error.exit_code: error for error in (ConfigurationError, DataError, InputMissingError)}
"""What an inspection ends with that another one would end with, too."""


async def probe_model(
    job: Job, owned: OwnedObjects, cluster: Cluster, model_uri: str, since: datetime | None
) -> ModelShape | Awaited:
    """The shape of a model that only pods can reach, or what the Job that reads it waits for, or failed of: then
    another one is made at the next look.

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
        return Awaited("ModelInspection", f"{model_uri} has changed and is looked at again")
    if known is None:
        await owned.make(render_inspection(job, model_uri, cluster.installation))
    view = owned.view("inspection")
    found = shape_of_inspection(view)
    if found is None and (events := await owned.events(view, lacks_pods=not view.pods)):
        found = shape_of_inspection(replace(view, events=events))
    if isinstance(found, ModelShape):
        return found
    if isinstance(found, RootCause) and found.exit_code is not None:
        if view.job is not None:
            await cluster.client.delete(view.job)
        if found.exit_code in _NO_MODEL:
            raise _NO_MODEL[found.exit_code](found.message, found.hint)
    return Awaited("ModelInspection", f"a pod reads the shape of {model_uri}", found)
