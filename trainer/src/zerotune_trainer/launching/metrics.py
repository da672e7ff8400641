"""A node's progress as Prometheus metrics, all gauges named `zerotune_*`. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from zerotune_trainer.progress import NodeProgress, Progress, RankProgress

__all__ = ["CONTENT_TYPE", "render_metrics"]

_PROGRESS = {
    "step": "Optimizer steps, or records of an InferenceJob, done",
    "total": "Steps or records there are",
    "epoch": "Passes over the training data done",
    "loss": "Training loss of the last log record",
    "learning_rate": "Learning rate of the last step",
    "grad_norm": "Norm of the gradient before clipping",
    "eval_loss": "Loss of the last evaluation",
    "perplexity": "exp of the loss of the last evaluation",
    "control_perplexity": "Perplexity of the control texts at the last evaluation",
    "tokens_per_second": "Tokens of all ranks per second",
    "mfu": "Model FLOPs utilization: share of what the devices can compute",
    "eta_seconds": "Seconds to go at the present pace",
    "memory_bytes": "Peak memory of rank 0",
    "failed_records": "Records that became a record with an error",
}
_RANK = {
    "step": "Step of the rank",
    "heartbeat_age_seconds": "Seconds since the rank's heartbeat",
    "step_age_seconds": "Seconds since the rank last got on",
}


def render_metrics(node: NodeProgress) -> bytes:
    """The metrics of a node in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_NodeCollector(node))
    return generate_latest(registry)


class _NodeCollector(Collector):
    def __init__(self, node: NodeProgress) -> None:
        self._node = node

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = {"job": self._node.job, "attempt": str(self._node.attempt), "host": self._node.host}
        if self._node.progress is not None:
            yield from _progress_gauges(self._node.progress, labels)
        yield from _rank_gauges(self._node.ranks, labels)


def _progress_gauges(progress: Progress, labels: dict[str, str]) -> Iterable[GaugeMetricFamily]:
    for name, text in _PROGRESS.items():
        if (value := getattr(progress, name)) is not None:
            yield _gauge(f"zerotune_{name}", text, [({}, value)], labels)


def _rank_gauges(ranks: list[RankProgress], labels: dict[str, str]) -> Iterable[GaugeMetricFamily]:
    for name, text in _RANK.items():
        samples = [({"rank": str(rank.rank)}, getattr(rank, name)) for rank in ranks]
        yield _gauge(f"zerotune_rank_{name}", text, samples, labels)
    phases = [({"rank": str(rank.rank), "phase": rank.phase}, 1) for rank in ranks]
    yield _gauge("zerotune_rank_phase", "1 for the phase the rank is in", phases, labels)


def _gauge(
    name: str, text: str, samples: Sequence[tuple[dict[str, str], float]], labels: dict[str, str]
) -> GaugeMetricFamily:
    own = list(samples[0][0]) if samples else []
    family = GaugeMetricFamily(name, text, labels=[*labels, *own])
    for extra, value in samples:
        family.add_metric([*labels.values(), *extra.values()], value)
    return family
