"""The Plan: what a job will do, as data, and the folder every pod receives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zerotune_operator.api.plan_summary import InstancePlan, PlanSummary
from zerotune_operator.plan.batch import Batch
from zerotune_operator.plan.topology import PlannedTopology
from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.sizing.generation import GenerationMemory
from zerotune_trainer.sizing.memory import ZeroCandidate
from zerotune_trainer.sizing.workload import Precision, Workload

_MOST_BYTES = 2**63 - 1
"""What an integer of the Kubernetes API holds; an absurd batch takes more."""


@dataclass(frozen=True)
class Plan:
    """Everything that is settled before a job starts."""

    config: TrainConfig | InferConfig
    hostfile: Hostfile
    backend: str
    topology: PlannedTopology
    batch: Batch
    precision: Precision
    shape: ModelShape
    workload: Workload | None = None
    """Of a FineTuneJob: what memory was estimated for."""
    candidates: tuple[ZeroCandidate, ...] = ()
    """Of a FineTuneJob: every way of partitioning, one of them taken."""
    generation: GenerationMemory | None = None
    """Of an InferenceJob."""
    deepspeed: JsonObject | None = None
    """Of a FineTuneJob: the content of `deepspeed.json`."""
    notes: tuple[str, ...] = ()
    """What the user should know, a sentence each."""
    instance_type: str | None = None
    """What the nodes are, where the backend has instance types."""
    alternatives: tuple[Plan, ...] = ()
    """Of a job that gets one of several instance types: the plan for each, in order of preference, the first of which
    is this one without them."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """The instance types that it does not fit on, and why."""

    @property
    def candidate(self) -> ZeroCandidate | None:
        """The candidate that was taken."""
        return next((candidate for candidate in self.candidates if candidate.taken), None)

    def artifacts(self) -> dict[str, str]:
        """The folder every node receives: text by file name, in a folder of its name for each of several types."""
        if self.alternatives:
            return {
                f"{plan.instance_type}/{name}": text
                for plan in self.alternatives
                for name, text in plan.artifacts().items()
            }
        files = {
            "config.json": self.config.model_dump_json(by_alias=True, indent=2) + "\n",
            "hostfile": self.hostfile.render(),
        }
        if self.deepspeed is not None:
            files["deepspeed.json"] = json.dumps(self.deepspeed, indent=2) + "\n"
        return files

    def summary(self) -> PlanSummary:
        """The plan as the resource's status keeps it."""
        return PlanSummary.model_validate(
            {
                "backend": self.backend,
                "nodes": self.topology.all_nodes,
                "replicas": self.topology.replicas,
                "globalBatchSize": self.batch.global_size,
                "configDigest": self.config.digest(),
                "instanceTypes": [plan._of_type() for plan in self.alternatives],
                "leftOut": self.left_out,
                **self._sizes(),
            }
            | ({} if self.alternatives else {"instanceType": self.instance_type})
        )

    def _of_type(self) -> InstancePlan:
        return InstancePlan.model_validate({"instanceType": self.instance_type, **self._sizes()})

    def _sizes(self) -> dict[str, Any]:
        """What depends on what the nodes are."""
        memory = self.candidate or self.generation
        return {
            "worldSize": self.topology.all_ranks,
            "perDeviceBatchSize": self.batch.micro,
            "gradientAccumulationSteps": self.batch.accumulation if self.candidate else None,
            "zeroStage": self.candidate.stage if self.candidate else None,
            "offloadOptimizer": self.candidate.offload_optimizer if self.candidate else None,
            "offloadParam": self.candidate.offload_param if self.candidate else None,
            "deviceBytes": min(memory.device_bytes, _MOST_BYTES) if memory else None,
            "nodeBytes": min(memory.node_bytes, _MOST_BYTES) if memory else None,
        }

    def data(self) -> dict[str, Any]:
        """The whole plan as JSON data, its artifacts included."""
        return {
            "job": self.config.job.model_dump(by_alias=True),
            "backend": self.backend,
            "topology": self.topology.model_dump(by_alias=True),
            "hosts": [{"name": host.name, "ranks": list(host.ranks)} for host in self.hostfile.hosts],
            "batch": self.batch.model_dump(by_alias=True),
            "precision": self.precision,
            "model": self.shape.model_dump(by_alias=True),
            "candidates": [candidate.model_dump(by_alias=True) for candidate in self.candidates],
            "generation": self.generation.model_dump(by_alias=True) if self.generation else None,
            "notes": list(self.notes),
            "artifacts": self.artifacts(),
            **self._instance_types(),
        }

    def _instance_types(self) -> dict[str, Any]:
        if not self.alternatives and not self.left_out:
            return {}
        fits = [plan._of_type().model_dump(by_alias=True, exclude_none=True) for plan in self.alternatives]
        return {"instanceTypes": fits, "leftOut": dict(self.left_out)}


class DoesNotFitError(ConfigurationError):
    """The job does not fit into the memory there is.

    Args:
        message: What was found, and the rule it breaks.
        hint: What would fit.
        plan: The plan as far as it goes: no candidate of it is taken, or one that cannot run.
    """

    def __init__(self, message: str, hint: str, plan: Plan) -> None:
        super().__init__(message, hint)
        self.plan = plan
