"""The jobs of resources, and the backends that run them: each version of a spec is read and checked once.

A job is reconciled some ten times, mostly because its pods change. Reading its spec and seeing that its backend
supports it took a quarter of those reconciles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import read_job
from zerotune_operator.backends.base import Backend
from zerotune_operator.backends.kubernetes.cache import Key
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.off_loop import off_loop
from zerotune_operator.backends.registry import operator_backend

_VERSION = ("uid", "generation", "labels", "annotations")
"""Metadata that changes where anything of a job does: the generation counts the changes of its spec."""


@dataclass(frozen=True)
class AcceptedJob:
    """A job that its backend supports."""

    version: dict[str, Any]
    job: Job
    backend: Backend[Any]


class AcceptedJobs:
    """Those of a cluster.

    Args:
        cluster: What all of them share.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[Key, AcceptedJob] = {}

    async def read(self, key: Key, resource: Object) -> AcceptedJob:
        """The job of a resource.

        Raises:
            ConfigurationError: it cannot be read, or its backend does not support what it asks for.
            TemporaryError: reading it takes too long.
        """
        version = {name: resource["metadata"].get(name) for name in _VERSION}
        known = self._known.get(key)
        if known is None or known.version != version:
            job = self._with_defaults(await off_loop(read_job, resource))
            known = AcceptedJob(version, job, operator_backend(job, self._cluster))
            self._known[key] = known
        return known

    def forget(self, key: Key) -> None:
        """A job is over, or its resource is deleted."""
        self._known.pop(key, None)

    def _with_defaults(self, job: Job) -> Job:
        """The job with what the operator was installed with, where it sets nothing itself."""
        ttl = self._cluster.installation.ttl_seconds_after_finished
        if ttl is None or job.spec.run_policy.ttl_seconds_after_finished is not None:
            return job
        policy = job.spec.run_policy.model_copy(update={"ttl_seconds_after_finished": ttl})
        return job.model_copy(update={"spec": job.spec.model_copy(update={"run_policy": policy})})
