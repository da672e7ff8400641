"""What the nodes of an attempt report, taken into the status without judging it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate, groupby

from zerotune_operator.api.status import Attempt, JobStatus, NodeTopology, display
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_operator.lifecycle.replicas import has_started, last_loss, restarts
from zerotune_trainer.progress import MOST_WARNINGS, Progress, TopologyEntry

ATTEMPTS_KEPT = 16
"""The status and the cluster know of so many; disruptions do not count as restarts, and may go on for ever."""
_HOSTS_KEPT = 4096
"""The hosts of all attempts of a status: those of the largest job. The API server stores 1.5 MiB of an object."""


def record(previous: JobStatus, seen: Observation, now: datetime) -> JobStatus:
    """What the nodes report, without judging it."""
    reports = [node.progress for node in seen.nodes if node.progress is not None]
    # Each replica reports how far the whole job is; one that has just come back, what it knows by then.
    figures = [report.progress for report in reports if report.progress]
    progress = _completed(max(figures, key=lambda each: each.step, default=None), previous.progress, seen)
    topology = [node for report in reports for node in _topology(report.topology or [], seen.nodes)]
    update = {
        "attempts": _attempts(previous, seen, progress, now),
        "start_time": previous.start_time or seen.created_at or (None if seen.queued else now),
        "progress": progress or previous.progress,
        "display": display(progress) if progress else previous.display,
        "plan": previous.plan.on(seen.instance_type) if previous.plan else None,
        "topology": _merged(previous.topology, topology, seen),
    }
    return previous.model_copy(update=update)


def _completed(found: Progress | None, known: Progress | None, seen: Observation) -> Progress | None:
    """The figures, with the step at which a node ended, which may be later, and the warnings of earlier attempts."""
    if found is None:
        return None
    ended_at = [node.failure.step for node in seen.nodes if node.failure and node.failure.step is not None]
    update = {"step": max(found.step, *ended_at, 0), "warnings": all_warnings(known, found)}
    return found.model_copy(update=update)


def all_warnings(known: Progress | None, found: Progress) -> list[str] | None:
    """The warnings that are known and those that are found, each once; the newest that there is room for. What the
    attempt that runs says again is as new as what it says first.
    """
    now = found.warnings or []
    earlier = [text for text in (known and known.warnings) or [] if text not in now]
    return [*earlier, *dict.fromkeys(now)][-MOST_WARNINGS:] or None


def _merged(known: list[NodeTopology], found: list[NodeTopology], seen: Observation) -> list[NodeTopology]:
    """What is found; where the nodes of a replica report nothing now, what is known of them."""
    if not found:
        return known
    of_host = {node.host: node for node in [*known, *found]}
    return [of_host[node.host] for node in seen.nodes if node.host in of_host]


def _attempts(previous: JobStatus, seen: Observation, progress: Progress | None, now: datetime) -> list[Attempt]:
    """The attempts with that of the observation among them; it has a start once all of its nodes have started."""
    known = [attempt for attempt in previous.attempts if attempt.number == seen.attempt]
    attempt = known[0] if known else Attempt(number=seen.attempt)
    if not attempt.hosts:
        attempt = attempt.model_copy(update={"hosts": [node.host for node in seen.nodes]})
    if attempt.start_time is None and has_started(seen):
        attempt = attempt.model_copy(update={"start_time": seen.started_at or now})
    if seen.training_job_arn is not None:
        attempt = attempt.model_copy(update={"training_job_arn": seen.training_job_arn})
    if (lost := restarts(seen)) > attempt.replica_restarts:
        attempt = attempt.model_copy(update={"replica_restarts": lost, "replica_failure": last_loss(seen)})
    if progress is not None:
        attempt = attempt.model_copy(update={"first_step": progress.first_step, "last_step": progress.step})
    others = [past for past in previous.attempts if past.number != attempt.number]
    return _with_bounded_hosts([*others, attempt][-ATTEMPTS_KEPT:])


def _with_bounded_hosts(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts, without the hosts of those before the newest ones that have `_HOSTS_KEPT` together."""
    counts = accumulate(len(attempt.hosts) for attempt in reversed(attempts))
    bounded = [
        attempt if count <= _HOSTS_KEPT else attempt.model_copy(update={"hosts": []})
        for attempt, count in zip(reversed(attempts), counts, strict=True)
    ]
    return bounded[::-1]


def _topology(entries: list[TopologyEntry], nodes: Sequence[NodeObservation]) -> list[NodeTopology]:
    machines = {node.host: node.node for node in nodes}
    by_rank = sorted(entries, key=lambda entry: entry.rank)
    hosts = groupby(by_rank, key=lambda entry: entry.host)
    return [_node_topology(host, machines.get(host), list(ranks)) for host, ranks in hosts]


def _node_topology(host: str, node: str | None, ranks: Sequence[TopologyEntry]) -> NodeTopology:
    first = ranks[0]
    return NodeTopology(
        host=host, hostname=first.hostname, node=node, first_rank=first.rank, ranks=len(ranks), device=first.device
    )
