"""What ranks report to their launcher, and what a launcher serves at `GET /progress`. Torch-free.

rank --(HeartbeatMessage, over a pipe)--> launcher --(NodeProgress, JSON over HTTP)--> backend --> the resource's status
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, Protocol

from pydantic import AwareDatetime, Field, StringConstraints

from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import TERMINATION_MESSAGE_LIMIT, Failure

Phase = Literal["starting", "data", "rendezvous", "model", "training", "evaluating", "generating", "saving", "done"]
"""What a rank is doing. Only `training`, `evaluating` and `generating` make steps."""

LONGEST_FIGURE_NAME, MOST_FIGURES = 64, 8
LONGEST_WARNING, MOST_WARNINGS = 512, 4
FigureName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]+$", max_length=LONGEST_FIGURE_NAME)]
"""Name of a figure that has no field of its own."""


class Progress(Settings):
    """How far the job is. Rank 0 fills it in; a field that does not apply is absent."""

    step: int
    """Optimizer steps done; for an InferenceJob, records done on all ranks."""
    total: int
    """Steps or records there are."""
    first_step: int | None = None
    """Where this attempt began: 0, or the step of the checkpoint it resumed from."""
    epoch: float | None = None
    """Passes over the training data done."""
    loss: float | None = None
    """Training loss of the last log record."""
    learning_rate: float | None = None
    """Learning rate of the last step."""
    grad_norm: float | None = None
    """Norm of the gradient before clipping."""
    eval_loss: float | None = None
    """Loss of the last evaluation."""
    perplexity: float | None = None
    """exp of `evalLoss`."""
    control_perplexity: float | None = None
    """Perplexity of the control texts at the last evaluation."""
    generation: Annotated[dict[FigureName, float], Field(max_length=MOST_FIGURES)] | None = None
    """Metrics of the texts generated at the last evaluation, by name."""
    tokens_per_second: float | None = None
    """Tokens of all ranks per second of wall time, over the last log interval."""
    mfu: float | None = None
    """Model FLOPs utilization: share of what the devices can compute; absent on CPU and on unknown GPUs."""
    eta_seconds: float | None = None
    """Seconds to go at the present pace."""
    memory_bytes: int | None = None
    """Peak device memory of this rank; on CPU its peak resident set."""
    warnings: (
        Annotated[list[Annotated[str, Field(max_length=LONGEST_WARNING)]], Field(max_length=MOST_WARNINGS)] | None
    ) = None
    """What a person should know though the job goes on, such as that its data has changed; the newest last."""
    failed_records: int | None = None
    """Records of an InferenceJob that became a record with an `error`."""


class Completion(Settings):
    """A finished job, as the rank that wrote its manifest reports it: for who cannot read the output itself."""

    job_uid: str
    """Of the job that the output belongs to."""
    config_digest: str
    """sha256 of what determined the result."""
    uri: str
    """Folder of the result, as the ranks see it."""
    files: int
    """How many files the manifest names."""
    bytes: int
    """Their size together."""
    progress: Progress
    """The last figures."""

    def termination_message(self) -> str:
        """`{"completion": ...}`, below `errors.TERMINATION_MESSAGE_LIMIT` bytes: a URI has at most 1024 characters, and
        warnings for which there is no room are left out.
        """
        text = json.dumps({"completion": self.model_dump(by_alias=True, exclude_none=True)}, ensure_ascii=False)
        if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT or not self.progress.warnings:
            return text
        fewer = self.progress.model_copy(update={"warnings": self.progress.warnings[1:] or None})
        return self.model_copy(update={"progress": fewer}).termination_message()


class TopologyEntry(Settings):
    """One rank as it really runs, for the topology proof."""

    rank: int
    local_rank: int
    host: str
    """The host's name in the hostfile."""
    hostname: str
    """What the machine calls itself."""
    device: str
    pid: int


class HeartbeatMessage(Settings):
    """A message of a rank to its launcher. A thread of the rank sends one a second, whatever the rank is doing."""

    rank: int
    phase: Phase
    step: int = 0
    reports: int = 0
    """How often the rank has called its Reporter: it grows as long as the rank gets on, steps or not."""
    progress: Progress | None = None
    topology: list[TopologyEntry] | None = None
    """Sent once, by rank 0."""
    completion: Completion | None = None
    """Sent last, by rank 0, once the manifest is written or was found to be there."""
    failure: Failure | None = None
    """Sent last, by a rank that fails."""


class RankProgress(Settings):
    """A rank as its launcher sees it."""

    rank: int
    pid: int | None = None
    phase: Phase = "starting"
    step: int = 0
    heartbeat_age_seconds: float
    """Since the rank's heartbeat thread last sent a message: a stopped process is silent."""
    step_age_seconds: float
    """Since the rank last reported a phase, a step or progress: a rank that waits for a peer sends heartbeats and
    reports nothing."""
    exit_code: int | None = None


class NodeProgress(Settings):
    """The answer of `GET /progress`."""

    job: str
    attempt: int
    host: str
    ranks: list[RankProgress]
    progress: Progress | None = None
    topology: list[TopologyEntry] | None = None
    completion: Completion | None = None
    failure: Failure | None = None
    waiting_for: Failure | None = None
    """What the node has waited for too long before its ranks could start. It is no end: it still waits."""


class NodeReport(Settings):
    """What a node writes to a store, where nobody can reach its launcher: how far it is, and how it ended."""

    host: str
    """Name of the node in the plan's hostfile."""
    progress: NodeProgress | None = None
    """The last answer of its launcher."""
    exit_code: int | None = None
    """Of the launcher; absent while it runs."""
    ended_at: AwareDatetime | None = None
    """When it ended."""
    message: str = ""
    """Its termination message."""


class Reporter(Protocol):
    """A rank's line to its launcher."""

    def phase(self, phase: Phase) -> None:
        """Report what the rank does now."""

    def step(self, step: int) -> None:
        """Report that a step (or batch of records) is done: the proof that the rank is not hung."""

    def progress(self, progress: Progress) -> None:
        """Report how far the job is."""

    def topology(self, entries: list[TopologyEntry]) -> None:
        """Report where all ranks run."""

    def warning(self, text: str) -> None:
        """Report, and log, what a person should know though the job goes on."""

    def completion(self, completion: Completion) -> None:
        """Report that the result is complete."""
