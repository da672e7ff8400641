"""Status of both kinds: what the operator found out, never what the user asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from zerotune_operator.api.plan_summary import PlanSummary
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ZerotuneError
from zerotune_trainer.progress import Progress

Phase = Literal["Pending", "Planned", "Queued", "Running", "Restarting", "Suspended", "Succeeded", "Failed"]
"""Where a job is in its life. Succeeded and Failed are final."""


class Condition(Settings):
    """The standard Condition of the Kubernetes API conventions."""

    type: str = Field(max_length=316, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$")
    """What is true or not: `Planned`, `Running`, `Succeeded`, `Failed`, ..."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is."""
    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that this was found for."""
    last_transition_time: AwareDatetime
    """When `status` last changed."""
    reason: str = Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    """Why, in one CamelCase word."""
    message: str = Field(default="", max_length=32768)
    """Why, for a person."""


class NodeTopology(Settings):
    """A node as it really runs: proven by its ranks once the process group is up."""

    host: str
    """Name in the hostfile."""
    hostname: str
    """What the machine calls itself."""
    node: str | None = None
    """Kubernetes node the pod is on."""
    first_rank: int
    """First global rank of the host; the others follow."""
    ranks: int
    """Ranks the host runs."""
    device: str
    """Device of the first rank: `cpu`, or the GPU's name."""


class Attempt(Settings):
    """One start of all ranks."""

    number: int
    """0, 1, 2, ..."""
    start_time: AwareDatetime | None = None
    """When all of its nodes had started, or those of one of its replicas."""
    end_time: AwareDatetime | None = None
    """When the last of them ended."""
    outcome: Literal["Running", "Succeeded", "Failed", "Stopped", "Preempted"] = "Running"
    """How it ended. Stopped and Preempted do not count against `runPolicy.maxRestarts`."""
    failure_class: str | None = None
    """Class of the failure, as in `rootCause`; known as soon as one of its nodes failed."""
    exit_code: int | None = None
    """Exit code of the host that failed first."""
    hosts: list[str] = Field(default=[], max_length=4096)
    """Its hosts as its hostfile names them, in rank order. The attempts of a status have at most 4,096 in all: those of
    the oldest are left out."""
    training_job_arn: str | None = Field(default=None, max_length=256)
    """ARN of its training job, on SageMaker: it has the job's region and name."""
    first_step: int | None = None
    """Step it resumed from."""
    last_step: int | None = None
    """Last step it reported."""
    replica_restarts: int = 0
    """How often one of its replicas was lost and came back alone. They do not count against `runPolicy.maxRestarts`,
    which is how often each of them may."""
    replica_failure: str | None = None
    """Why the last of these was lost."""


class RootCause(Settings):
    """The first failure, or what keeps nodes waiting, and where."""

    failure_class: str = Field(alias="class")
    """What failed: Configuration, Data, InputMissing, Forgetting, NameResolution (also while it is waited for),
    PeerLost, Internal, OutOfMemory, Hang, Temporary, Authentication, Superseded, Killed, DeadlineExceeded. What the
    cluster did, which counts as no restart: Preempted, Evicted, NodeLost, Deleted, InsufficientCapacity. Why the
    launcher never ran: ContainerStart, StorageLimit, PodFailed. What nodes wait for, which is no failure yet:
    ImagePull, Unschedulable, QuotaExceeded, MissingReference, VolumeMount, InitContainer, Forbidden,
    WebhookUnavailable, PodCreation, NotFound (SageMaker does not know the training job)."""
    message: str
    """What was found, and the rule it breaks."""
    hint: str = ""
    """What to do about it."""
    rank: int | None = None
    """Global rank that failed."""
    host: str | None = None
    """Name in the hostfile."""
    node: str | None = None
    """Kubernetes node, or instance."""
    pod: str | None = None
    """Pod whose container failed."""
    step: int | None = None
    """Step it was at."""
    exit_code: int | None = None
    """Exit code of the container or process."""


class OutputSummary(Settings):
    """The result, as its manifest describes it."""

    uri: str
    """Folder of the result."""
    step: int | None = None
    """Last optimizer step."""
    files: int
    """How many files it has."""
    bytes: int
    """Their size together."""


class Display(Settings):
    """Progress as `kubectl get` prints it."""

    step: str
    """Steps (records) done and in all: `120/500`."""
    loss: str | None = None
    """Loss of the last log record."""
    control_perplexity: str | None = None
    """Perplexity of the control texts at the last evaluation."""
    tokens_per_second: str | None = None
    """Tokens of all ranks per second."""
    eta: str | None = None
    """Time to go: `1h12m0s`."""


class JobStatus(Settings):
    """Status of a FineTuneJob or InferenceJob."""

    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that this status is about."""
    phase: Phase | None = None
    """Where the job is in its life."""
    conditions: list[Condition] = Field(
        default=[], json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    )
    """What is known about the job, each with reason and time."""
    start_time: AwareDatetime | None = None
    """When the first attempt started."""
    completion_time: AwareDatetime | None = None
    """When the job succeeded or failed for good."""
    model: ModelShape | None = None
    """The model's shape, as its `config.json` has it; what memory is planned with."""
    model_uri: str | None = None
    """The model that the last attempt started from: `model.uri`, or the output of the job that `model` names, which may
    be deleted by now."""
    data_uris: dict[str, str] = Field(default={})
    """The outputs of the jobs that `data` names, by field, that the last attempt started from: `data.train`."""
    plan: PlanSummary | None = None
    """What the plan settled on."""
    progress: Progress | None = None
    """How far the job is."""
    display: Display | None = None
    """`progress` as `kubectl get` prints it."""
    topology: list[NodeTopology] = Field(default=[], max_length=4096)
    """The nodes as they really run."""
    attempts: list[Attempt] = Field(default=[], max_length=16)
    """The last attempts, newest last."""
    restarts: int = Field(default=0, ge=0)
    """Attempts that count against `runPolicy.maxRestarts`."""
    root_cause: RootCause | None = None
    """Why the job failed, or why it restarts, or what its nodes wait for."""
    output: OutputSummary | None = None
    """The result."""


def cause_of(error: ZerotuneError) -> RootCause:
    """An error as the reason of a status."""
    return RootCause(
        failure_class=error.failure_class, message=error.message, hint=error.hint, exit_code=error.exit_code
    )


def display(progress: Progress) -> Display:
    """Progress as `kubectl get` and `zerotune status` print it."""
    # Once the last step is done, texts are generated, and the model is saved: for how long is not known.
    seconds = progress.eta_seconds if progress.step < progress.total else None
    return Display(
        step=f"{progress.step}/{progress.total}",
        loss=_figure(progress.loss),
        control_perplexity=_figure(progress.control_perplexity),
        tokens_per_second=None if progress.tokens_per_second is None else f"{progress.tokens_per_second:.0f}",
        eta=None if seconds is None else duration(timedelta(seconds=seconds)),
    )


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def duration(span: timedelta) -> str:
    """A span of time as Go's time.Duration prints it, in whole seconds: `45s`, `12m5s`, `1h0m3s`."""
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
