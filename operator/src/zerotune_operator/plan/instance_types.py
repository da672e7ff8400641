"""One job on several instance types, of which it gets one: a plan for each that it fits on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_operator.plan.plan import DoesNotFitError, Plan
from zerotune_trainer.errors import ConfigurationError

PlanOne = Callable[[Job, RuntimeLayout], Plan]


def plan_instance_types(job: Job, layout: RuntimeLayout, plan_one: PlanOne) -> Plan:
    """The plan for the first instance type that the job fits on; its `alternatives` are those for all that it fits on.

    Args:
        job: The job.
        layout: Where it runs, with `alternatives`.
        plan_one: Plans it for one of these.

    Raises:
        DoesNotFitError: there is not the memory for it on any.
        ConfigurationError: it cannot run on any.
    """
    plans: list[Plan] = []
    errors: dict[str, ConfigurationError] = {}
    for each in layout.alternatives:
        try:
            plans.append(plan_one(_with_batch_of(plans, on_instance_type(job, each)), each))
        except ConfigurationError as error:
            errors[str(each.instance_type)] = error
    left_out = dict(layout.left_out) | {name: error.message for name, error in errors.items()}
    if not plans:
        raise _with_plan(refusal(layout, errors), errors, left_out)
    return joined([_with_result_of(plans[0], plan) for plan in plans], left_out)


def on_instance_type(job: Job, layout: RuntimeLayout) -> Job:
    """The job with the GPUs that a node of the layout has."""
    if layout.gpus_per_node is None:
        return job
    topology = job.spec.topology.model_copy(update={"gpus_per_node": layout.gpus_per_node})
    return _with_spec(job, topology=topology)


def refusal(layout: RuntimeLayout, errors: Mapping[str, ConfigurationError]) -> ConfigurationError:
    """Why a job can run on none of the instance types of a layout: what is wrong on all of them is said once."""
    first = next(iter(errors.values()))
    if not layout.left_out and all(error.message == first.message for error in errors.values()):
        return first
    reasons = dict(layout.left_out) | {name: error.message for name, error in errors.items()}
    return ConfigurationError(
        f"the job can run on none of backend.sagemaker.instanceTypes: "
        f"{'; '.join(f'{name}: {reason}' for name, reason in reasons.items())}",
        f"name other instance types; for {next(iter(errors))}: {first.hint}",
    )


def _with_batch_of(plans: list[Plan], job: Job) -> Job:
    """The job with the global batch of the plan before it: the result of a training must not depend on capacity."""
    if not plans or not isinstance(job, FineTuneJob):
        return job
    training = job.spec.training.model_copy(update={"global_batch_size": plans[0].batch.global_size})
    return _with_spec(job, training=training)


def _with_result_of(first: Plan, plan: Plan) -> Plan:
    """The plan, whose result counts as that of the first one: an attempt may go on with what another has made."""
    if plan is first:
        return plan
    return replace(plan, config=plan.config.model_copy(update={"same_result_as": first.config.digest()}))


def joined(plans: Sequence[Plan], left_out: Mapping[str, str]) -> Plan:
    """The first of the plans, with all of them as its alternatives.

    Args:
        plans: In order of preference.
        left_out: The instance types that have none, and why.
    """
    notes = [f"{name} is left out: {reason}" for name, reason in left_out.items()]
    return replace(
        plans[0], alternatives=tuple(plans), left_out=left_out, notes=tuple(dict.fromkeys([*plans[0].notes, *notes]))
    )


def _with_plan(
    error: ConfigurationError, errors: Mapping[str, ConfigurationError], left_out: Mapping[str, str]
) -> ConfigurationError:
    """The error with the plan of the first type that lacks memory, where there is one."""
    lacking = next((each for each in errors.values() if isinstance(each, DoesNotFitError)), None)
    if lacking is None:
        return error
    return DoesNotFitError(error.message, error.hint, replace(lacking.plan, left_out=left_out))


def _with_spec(job: Job, **update: object) -> Job:
    return job.model_copy(update={"spec": job.spec.model_copy(update=update)})
