"""What can be checked of a job before its model is known: templates, folders, ranks, batch, precision. Pure."""

from __future__ import annotations

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.plan.adapter import check_names, check_partitioning
from zerotune_operator.plan.arguments import check_arguments
from zerotune_operator.plan.batch import inference_batch, training_batch
from zerotune_operator.plan.engine import check_options
from zerotune_operator.plan.engine_settings import given_sizes
from zerotune_operator.plan.folders import check_folders
from zerotune_operator.plan.instance_types import on_instance_type, refusal
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_operator.plan.overrides import check_precision, merge_deepspeed
from zerotune_operator.plan.precision import resolve_precision
from zerotune_operator.plan.templates import check_templates
from zerotune_operator.plan.topology import plan_topology
from zerotune_trainer.errors import ConfigurationError


def check_job(job: Job, layout: RuntimeLayout) -> None:
    """See that a job can be planned, whatever its model; of several instance types, for one at least.

    Raises:
        ConfigurationError: it cannot.
    """
    check_templates(job)
    check_folders(job, layout)
    errors: dict[str, ConfigurationError] = {}
    for each in layout.alternatives or (layout,):
        try:
            _check_ranks(on_instance_type(job, each), each)
        except ConfigurationError as error:
            errors[str(each.instance_type)] = error
        else:
            return
    raise refusal(layout, errors)


def _check_ranks(job: Job, layout: RuntimeLayout) -> None:
    topology = plan_topology(job.spec.topology, job.spec.parallelism, layout)
    if isinstance(job, FineTuneJob):
        spec = merge_deepspeed(job.spec)
        check_arguments(spec)
        check_names(spec.adapter)
        check_partitioning(spec)
        given_sizes(spec.deepspeed)
        training_batch(spec.training, topology.data_parallel)
        check_precision(resolve_precision(spec.training.precision, topology.accelerator), spec.deepspeed)
    else:
        check_options(job.spec)
        resolve_precision(job.spec.precision, topology.accelerator)
        inference_batch(job.spec.global_batch_size, job.spec.per_device_batch_size, topology.world_size)
