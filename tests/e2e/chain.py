"""cpt > sft > ask, applied at once and run to the end: what several tests check."""

from __future__ import annotations

import time
from dataclasses import dataclass

from zerotune_devtools.harness.installation import Installation
from zerotune_devtools.harness.jobs import fine_tune_job, inference_job
from zerotune_devtools.harness.kubectl import Object

_NAMES = ("ftj/cpt", "ftj/sft", "ij/ask")


@dataclass(frozen=True)
class Chain:
    """Status of each job, by how kubectl names it."""

    at_first: dict[str, Object]
    """While the first one ran."""
    at_last: dict[str, Object]
    """At the end."""
    first_step_seconds: float
    """From `kubectl apply` to the first training step of the first job, as its status showed it."""
    cost: dict[str, float]
    """What the operator spent on all three."""


def run_chain(installation: Installation) -> Chain:
    """Apply the three and wait for them."""
    namespace = installation.jobs
    spent = _spent(installation)
    began = time.monotonic()
    namespace.apply(
        fine_tune_job("cpt"),
        fine_tune_job("sft", "sft", model={"fromFineTuneJob": "cpt"}),
        inference_job("ask", model={"fromFineTuneJob": "sft"}),
    )
    namespace.step("ftj/cpt", 1)
    seconds = time.monotonic() - began
    at_first = {name: namespace.get(name)["status"] for name in _NAMES}
    at_last = {name: namespace.phase(name, "Succeeded") for name in _NAMES}
    cost = {name: value - spent[name] for name, value in _spent(installation).items()}
    return Chain(at_first, at_last, seconds, cost)


def _spent(installation: Installation) -> dict[str, float]:
    """What the operator has spent since it started."""
    return {
        "requests": installation.metric("zerotune_api_requests_total"),
        "requests that write": sum(
            installation.metric("zerotune_api_requests_total", method=method) for method in ("POST", "PATCH")
        ),
        "reconciles": installation.metric("zerotune_reconciles_total"),
        "CPU seconds": installation.metric("process_cpu_seconds_total"),
    }
