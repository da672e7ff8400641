"""The operator's own metrics, for Prometheus."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from zerotune_operator.backends.kubernetes.cache import Cache


class Metrics:
    """The operator's figures.

    Args:
        cache: Counted by kind and phase at every scrape.
    """

    def __init__(self, cache: Cache) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Counter(
            "zerotune_reconciles", "Reconciles of a resource.", ("kind", "result"), registry=self.registry
        )
        self._rejections = Counter(
            "zerotune_rejections",
            "Jobs that were rejected, by failure class.",
            ("kind", "failure_class"),
            registry=self.registry,
        )
        self._seconds = Histogram("zerotune_reconcile_seconds", "Time a reconcile took.", registry=self.registry)
        self._requests = Counter(
            "zerotune_api_requests", "Requests to the API server.", ("method", "code"), registry=self.registry
        )
        self.leader = Gauge("zerotune_leader", "1 where this replica leads.", registry=self.registry)
        self.registry.register(_Jobs(cache))
        ProcessCollector(registry=self.registry)

    def request(self, method: str, code: int) -> None:
        """Count a request; code 0: it got no answer."""
        self._requests.labels(method, str(code)).inc()

    def rejected(self, kind: str, failure_class: str) -> None:
        """Count a job that cannot be read, planned or started."""
        self._rejections.labels(kind, failure_class).inc()

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """Count a reconcile: `done` or `failed`."""
        self._reconciles.labels(kind, result).inc()
        self._seconds.observe(seconds)


class _Jobs(Collector):
    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> list[GaugeMetricFamily]:
        phases = Counts(
            (key.kind, (resource.get("status") or {}).get("phase") or "Pending")
            for key, resource in self._cache.resources()
        )
        family = GaugeMetricFamily("zerotune_jobs", "Resources by kind and phase.", labels=("kind", "phase"))
        for labels, number in sorted(phases.items()):
            family.add_metric(labels, number)
        return [family]
