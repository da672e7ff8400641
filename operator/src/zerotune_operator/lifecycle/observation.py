"""What a backend sees of an attempt of a job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from zerotune_operator.api.status import OutputSummary
from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import NodeProgress, Progress

NodeState = Literal["waiting", "running", "ended"]

CAPACITY = "InsufficientCapacity"
"""Class of failure of an attempt for which there were no machines."""
DISRUPTIONS = frozenset({"Preempted", "Evicted", "NodeLost", "Deleted", CAPACITY})
"""Classes of failures that a cluster inflicts: the job is tried again, and that does not count."""


@dataclass(frozen=True)
class NodeObservation:
    """One node of an attempt: a pod, an instance, a process."""

    host: str
    """Its name in the hostfile."""
    state: NodeState
    exit_code: int | None = None
    """Of a node that ended; minus the number of the signal that killed it."""
    ended_at: datetime | None = None
    failure: Failure | None = None
    """Of a node that ended: its termination message, where it left one. Of one that waits: what it waits for, where
    that does not pass by itself."""
    progress: NodeProgress | None = None
    """Its last answer at `/progress`."""
    pod: str | None = None
    """Name of its pod, on a cluster."""
    node: str | None = None
    """Machine of the cluster that its pod is on."""
    program: str = "zerotune-launch"
    """What runs on it."""
    restarts: int = 0
    """Of several replicas: how often it failed in this attempt and was started anew, or is about to be."""
    lost: NodeObservation | None = None
    """How it ended last, until it has started anew."""

    @property
    def disrupted(self) -> bool:
        """Whether it was preempted, evicted, deleted, or lost with its machine: no fault of the job's."""
        return self.state == "ended" and self.failure is not None and self.failure.failure_class in DISRUPTIONS


@dataclass(frozen=True)
class AttemptRef:
    """An attempt that was started, as far as it is observed, by whatever version of zerotune started it."""

    number: int
    hosts: tuple[str, ...]
    """Its hosts as its hostfile names them, in rank order."""
    job_uid: str
    config_digest: str
    """sha256 of what determines its result."""
    progress_port: int
    """Where its launchers answer."""
    output_uri: str
    """The job's `output.uri`."""
    replicas: int = 1
    """Replicas that its hosts divide into."""


@dataclass(frozen=True)
class Observation:
    """What a backend sees of one attempt of a job."""

    attempt: int
    nodes: tuple[NodeObservation, ...]
    """In hostfile order."""
    output: OutputSummary | None = None
    """The result, once every node has ended, or of several replicas the first that reports it: only where its
    completion marker is there and is this job's."""
    final: Progress | None = None
    """The last figures of a complete result: the end of a job may come between two observations of its nodes."""
    instance_type: str | None = None
    """What its nodes are, where they may be one of several instance types and it is known which."""
    training_job_arn: str | None = None
    """ARN of its training job, on SageMaker."""
    created_at: datetime | None = None
    """When it was created, when its nodes started, and when the last of them ended: where what runs it knows better
    than whoever looks, who may do so for the first time long after the end."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    queued: bool = False
    """Whether a queue has yet to admit the attempt."""
    replicas: int = 1
    """Replicas that its nodes divide into."""
    closed: bool = True
    """Whether a node that has ended stays so: nothing starts another in its place. An attempt is over when all of its
    nodes have ended and it is closed; another one would else write to the same output as this one, started again."""

    @property
    def all_ended(self) -> bool:
        """Whether every node has ended."""
        return all(node.state == "ended" for node in self.nodes)
