"""What a cluster shows of an attempt -> Observation. Pure.

index of the Job > its pod > waiting (for what), running (how far) or ended (why)
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce

from zerotune_operator.api.status import OutputSummary, RootCause
from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.diagnosis import (
    deleted,
    deleted_with_job,
    failure_of,
    with_written_uris,
    without_launcher,
)
from zerotune_operator.backends.kubernetes.job_state import JobState
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.waiting import job_waits_for, waits_for
from zerotune_operator.backends.reports import Ending, read_ending
from zerotune_operator.lifecycle.observation import AttemptRef, NodeObservation, Observation
from zerotune_operator.lifecycle.replicas import NEVER_RETRIED, has_failed, of_each_replica
from zerotune_operator.lifecycle.root_cause import root_cause, waiting_cause
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import Failure, InternalError, StoppedError
from zerotune_trainer.progress import Completion, NodeProgress


@dataclass(frozen=True)
class ClusterView:
    """What is known of one Job. Pods may be whole, or as `pods.trim_pod` leaves them."""

    job: Object | None
    """The batch/v1 Job. None: it was deleted; of one that was just made it is what the API server answered."""
    pods: tuple[Object, ...]
    """Its pods that are there."""
    events: tuple[Object, ...] = ()
    """core/v1 Events about the Job and its pods: needed only where something waits for long."""
    progress: Mapping[str, NodeProgress] = field(default_factory=dict)
    """Last answers at `/progress`, by the name of the pod."""
    seen_at: datetime | None = None
    """When this was seen: what waits for long is reported."""


def observe(attempt: AttemptRef, view: ClusterView) -> Observation:
    """What the nodes of an attempt do; once all have ended, also its result."""
    of_index = _by_index(view.pods)
    nodes = tuple(_node(view, index, host, of_index.get(index)) for index, host in enumerate(attempt.hosts))
    job = JobState(view.job)
    if attempt.replicas > 1:
        nodes = tuple(_or_restarting(node, of_index.get(index), job, view, index) for index, node in enumerate(nodes))
    seen = Observation(attempt.number, nodes, queued=job.queued, closed=job.is_closed, replicas=attempt.replicas)
    completion = _completion(seen, of_index)
    if completion is None or not _is_of(completion, attempt):
        return seen
    return replace(seen, output=_summary(completion, attempt), final=completion.progress)


def shape_of_inspection(view: ClusterView) -> ModelShape | RootCause | None:
    """What the Job that reads the shape of a model found.

    Returns:
        The shape. A RootCause with an exit code: the Job ended with it. One without: its pod waits for what does not
        come by itself. None: the Job has not ended.
    """
    pod = reduce(pod_state.newer, view.pods) if view.pods else None
    seen = _node(view, 0, pod_state.name(pod) if pod else "the inspection", pod)
    seen = replace(seen, program="zerotune-inspect")
    if seen.state == "ended" and seen.failure is None and seen.exit_code == 0:
        if (shape := _ending(pod).shape) is not None:
            return shape
        seen = replace(seen, failure=_no_shape(seen), exit_code=InternalError.exit_code)
    cause = root_cause([seen]) if seen.state == "ended" else waiting_cause([seen])
    return cause.model_copy(update={"host": None}) if cause else None  # It is no node of the job.


def _by_index(found: Sequence[Object]) -> dict[int | None, Object]:
    of_index: dict[int | None, Object] = {}
    for pod in found:
        index = pod_state.index(pod)
        of_index[index] = pod_state.newer(of_index[index], pod) if index in of_index else pod
    return of_index


def _node(view: ClusterView, index: int, host: str, pod: Object | None) -> NodeObservation:
    job = JobState(view.job)
    if pod is None or (pod_state.is_deleted(pod) and not pod_state.is_running(pod) and job.is_of_earlier_run(pod)):
        return _without_pod(view, job, index, host)
    if pod_state.has_ended(pod):
        return _ended(view, job, host, pod)
    return NodeObservation(
        host=host,
        state="running" if pod_state.is_running(pod) else "waiting",
        failure=None if pod_state.is_running(pod) else waits_for(pod, view.events, view.seen_at),
        progress=_progress(view, pod),
        pod=pod_state.name(pod),
        node=pod_state.node(pod),
    )


def _or_restarting(
    node: NodeObservation, pod: Object | None, job: JobState, view: ClusterView, index: int
) -> NodeObservation:
    """A node of one of several replicas: where its pod has failed and another takes its place, it waits for that."""
    if pod is None:
        return node
    before = pod_state.failures_before(pod)
    final = not node.disrupted and node.exit_code in NEVER_RETRIED
    if not has_failed(node) or final or not job.is_to_run or job.is_over(index):
        return replace(node, restarts=before)
    waits_for = job_waits_for(view.events, job.name)
    return NodeObservation(node.host, "waiting", failure=waits_for, restarts=before + 1, lost=node)


def _without_pod(view: ClusterView, job: JobState, index: int, host: str) -> NodeObservation:
    """An index whose pod is not made yet, or is not there any more."""
    if job.succeeded(index):
        return NodeObservation(host, "ended", 0)
    if job.is_over(index):
        failure = deleted_with_job(f"the pod of {host}") if job.is_stopped else deleted(f"the pod of {host}")
        return NodeObservation(host, "ended", failure.exit_code, failure=failure)
    if view.job is None or job.queued:
        return NodeObservation(host, "waiting")
    return NodeObservation(host, "waiting", failure=job_waits_for(view.events, view.job["metadata"]["name"]))


def _ended(view: ClusterView, job: JobState, host: str, pod: Object) -> NodeObservation:
    failure = failure_of(pod, job_goes_on=job.is_to_run)
    seen = NodeObservation(
        host=host,
        state="ended",
        exit_code=_exit_code(pod, reported=failure is not None),
        ended_at=pod_state.ended_at(pod),
        failure=failure,
        progress=_progress(view, pod),
        pod=pod_state.name(pod),
        node=pod_state.node(pod),
    )
    if seen.exit_code == 0 and seen.progress is None and pod_state.ended_without_launcher(pod):
        failure = without_launcher(pod)
        return replace(seen, failure=failure, exit_code=failure.exit_code)
    return seen


def _exit_code(pod: Object, *, reported: bool) -> int | None:
    """As `NodeObservation` has it: a shell's 128 + N, of a launcher that left no message, is the signal N."""
    state = pod_state.terminated(pod)
    if state is None:
        return 0 if pod_state.phase(pod) == "Succeeded" else None
    code = int(state["exitCode"])
    killed = code - 128 in set(signal.Signals) and code != StoppedError.exit_code
    return 128 - code if killed and not reported else code


def _progress(view: ClusterView, pod: Object) -> NodeProgress | None:
    known = view.progress.get(pod_state.name(pod))
    if known is None or known.failure is None:
        return known
    return known.model_copy(update={"failure": with_written_uris(known.failure)})


def _ending(pod: Object | None) -> Ending:
    """The termination message of a pod that ended well; an empty one where it is something else."""
    return read_ending((pod_state.terminated(pod) or {}).get("message", "") if pod else "")


def _completion(seen: Observation, of_index: Mapping[int | None, Object]) -> Completion | None:
    """What the rank that wrote the manifest reports of it, once every node has ended; of several replicas, what the
    first of them reports that has ended.
    """
    if seen.replicas == 1 and not seen.all_ended:
        return None
    firsts = [indices[0] for indices in of_each_replica(range(len(seen.nodes)), seen.replicas)]
    found = (_reported_by(seen.nodes[first], of_index.get(first)) for first in firsts)
    return next((completion for completion in found if completion is not None), None)


def _reported_by(node: NodeObservation, pod: Object | None) -> Completion | None:
    if node.state != "ended":
        return None
    return _ending(pod).completion or (node.progress.completion if node.progress else None)


def _is_of(completion: Completion, attempt: AttemptRef) -> bool:
    return completion.job_uid == attempt.job_uid and completion.config_digest == attempt.config_digest


def _summary(completion: Completion, attempt: AttemptRef) -> OutputSummary:
    """The result. Where it lies was planned: a job that runs it as its model reads it with rights of its own."""
    return OutputSummary(
        uri=attempt.output_uri,
        step=completion.progress.step,
        files=completion.files,
        bytes=completion.bytes,
    )


def _no_shape(seen: NodeObservation) -> Failure:
    return Failure(
        failure_class=InternalError.failure_class,
        message=f"{seen.host} ended with exit code 0, but its termination message has no shape of the model",
        hint="see that backend.kubernetes.image is of the version of the operator",
        exit_code=InternalError.exit_code,
    )
