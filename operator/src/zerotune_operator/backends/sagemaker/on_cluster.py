"""Jobs on SageMaker that the operator of a cluster runs, with its own rights at AWS."""

from __future__ import annotations

import asyncio
from functools import cache

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.model_source import find_model, find_records
from zerotune_operator.backends.sagemaker.advice import CLUSTER
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.client import SageMakerClient
from zerotune_operator.backends.sagemaker.layout import model_source, sagemaker_of
from zerotune_operator.backends.sagemaker.requirements import require_readable
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_operator.plan.outputs import reading_output
from zerotune_trainer.sizing.model_config import model_shape


def backend_on_cluster(job: Job, cluster: Cluster) -> SageMakerBackend:
    """The backend of a job that the operator runs on SageMaker.

    Raises:
        ConfigurationError: the installation does not let the job run there, or SageMaker does not support it.
    """
    settings = cluster.installation.sagemaker
    training_jobs = _training_jobs(sagemaker_of(job).region or settings.region)

    async def find_inputs(status: JobStatus) -> Inputs | Awaited:
        source = await find_model(job, status, cluster.cache, cluster.hub)
        if isinstance(source, Awaited):
            return source
        records = find_records(job, status, cluster.cache)
        if isinstance(records, Awaited):
            return records
        require_readable(job, records | {"model": source.uri})
        uri, shape, read = model_source(job, source.uri), source.shape, training_jobs.client.read_now
        if shape is None:
            with reading_output(job, uri):
                shape = await asyncio.to_thread(model_shape, uri, job.spec.model.revision, read)
        return Inputs(uri, shape, records)

    return SageMakerBackend(job, training_jobs, settings, find_inputs)


@cache
def _training_jobs(region: str | None) -> TrainingJobs:
    """Those of a region: all jobs share a client, and what is known of training jobs."""
    return TrainingJobs(SageMakerClient(region, CLUSTER))
