"""The finalizer of resources whose job goes on elsewhere when they are deleted: it is stopped first."""

from __future__ import annotations

import logging

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import read_job
from zerotune_operator.backends.driver import REJECTIONS
from zerotune_operator.backends.kubernetes.api_errors import MissingError
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.off_loop import off_loop
from zerotune_operator.backends.registry import BACKENDS, operator_backend, operator_target
from zerotune_operator.controller.status_writer import read_status

FINALIZER = "zerotune.dev/training-job"

_logger = logging.getLogger(__name__)


class Finalizers:
    """Adds the finalizer before anything is started, and removes it once that is stopped or the job is over: what is
    over holds up no namespace that is deleted after the operator is.

    Args:
        cluster: What all jobs share.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def add(self, resource: Object, job: Job) -> bool:
        """Give a resource the finalizer, where its backend needs it; answers whether it had none before.

        Raises:
            ZerotuneError: the API server does not answer, or the resource has changed.
        """
        names = resource["metadata"].get("finalizers", [])
        if FINALIZER in names or not BACKENDS[operator_target(job)].outlives_resource:
            return False
        await self._write(resource, [*names, FINALIZER])
        return True

    async def release(self, resource: Object) -> None:
        """Remove the finalizer from a resource whose job is over.

        Raises:
            ZerotuneError: what the job may have left running could not be stopped, and is to be tried again.
        """
        if FINALIZER in resource["metadata"].get("finalizers", []):
            await self.finalize(resource)

    async def finalize(self, resource: Object) -> None:
        """Stop what a deleted job leaves running, then let the resource go. Of one that cannot be read, or may not run
        here any more, nothing can be stopped.

        Raises:
            ZerotuneError: it could not be stopped, and is to be tried again.
        """
        try:
            backend = operator_backend(await off_loop(read_job, resource), self._cluster)
        except REJECTIONS as error:
            _logger.warning("%s is deleted without stopping what it runs: %s", resource["metadata"]["name"], error)
        else:
            await backend.finalize(read_status(resource))
        names = resource["metadata"].get("finalizers", [])
        if FINALIZER in names:
            await self._write(resource, [name for name in names if name != FINALIZER])

    async def _write(self, resource: Object, names: list[str]) -> None:
        read = {key: resource["metadata"][key] for key in ("uid", "resourceVersion")}
        try:
            await self._cluster.client.merge(resource, {"metadata": read | {"finalizers": names}})
        except MissingError:
            return  # It was deleted meanwhile.
