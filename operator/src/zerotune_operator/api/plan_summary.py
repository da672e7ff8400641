"""What a plan settled on, as the status of a job keeps it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zerotune_trainer.config.base import Settings


class RankPlan(Settings):
    """Ranks, batch, ZeRO and memory that the plan settled on."""

    world_size: int
    """Ranks in all, those of all replicas."""
    per_device_batch_size: int
    """Rows or records a rank takes at once."""
    gradient_accumulation_steps: int | None = None
    """Micro batches an optimizer step sums up."""
    zero_stage: int | None = None
    """ZeRO stage taken."""
    offload_optimizer: Literal["none", "cpu", "nvme"] | None = None
    """Where optimizer state lives."""
    offload_param: Literal["none", "cpu", "nvme"] | None = None
    """Where parameters live."""
    device_bytes: int | None = None
    """Estimated peak memory of a GPU, in bytes."""
    node_bytes: int | None = None
    """Estimated peak memory of a node, in bytes."""


class InstancePlan(RankPlan):
    """What the plan settled on for an instance type."""

    instance_type: str
    """The instance type."""


class PlanSummary(RankPlan):
    """What the plan settled on."""

    backend: Literal["kubernetes", "sagemaker", "local"]
    """What runs the job."""
    nodes: int
    """Hosts of the hostfile, those of all replicas."""
    replicas: int = 1
    """Replicas of an InferenceJob, which share its records."""
    global_batch_size: int
    """Rows an optimizer step sees, or records all ranks of a replica generate for at once."""
    config_digest: str | None = None
    """sha256 of what determines the result."""
    instance_type: str | None = None
    """Instance type of SageMaker. Of several there is none until SageMaker has selected one; the plan is then that for
    the first of them."""
    instance_types: list[InstancePlan] = Field(default=[], max_length=5)
    """Plans for the instance types of which SageMaker selects one, in order of preference, where there are several."""
    left_out: dict[str, str] = Field(default={}, max_length=5)
    """Instance types that the job does not fit on, and why."""

    def on(self, instance_type: str | None) -> PlanSummary:
        """The plan, once SageMaker has selected an instance type of its `instanceTypes`."""
        selected = next((each for each in self.instance_types if each.instance_type == instance_type), None)
        if selected is None:
            return self
        return self.model_copy(update={name: getattr(selected, name) for name in InstancePlan.model_fields})
