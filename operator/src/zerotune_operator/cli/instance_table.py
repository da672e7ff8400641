"""The instance types of a job that gets one of several, as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zerotune_operator.backends.sagemaker.instances import instance_type
from zerotune_operator.plan import Plan
from zerotune_trainer.sizing.workload import gib

_HEAD = ("instance type", "GPUs", "a GPU", "a node", "ranks", "batch", "ZeRO")


def instance_table(plan: Plan, prices: Mapping[str, float]) -> Table:
    """What is planned for each instance type, in order of preference, then those that the job does not fit on.

    Args:
        plan: The plan.
        prices: USD that an instance costs an hour, by instance type, where somebody gave them.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in _HEAD:
        table.add_column(title, no_wrap=True)
    if prices:
        table.add_column("USD an hour", justify="right", no_wrap=True)
    table.add_column("fits")
    for each in plan.alternatives:
        name = str(each.instance_type)
        table.add_row(name, *_equipment(name), *_ranks(each), *_price(name, plan, prices), _fits(each))
    for name, reason in plan.left_out.items():
        table.add_row(name, *_equipment(name), "", "", "", *_price(name, plan, prices), f"no: {reason}", style="dim")
    return table


def _fits(plan: Plan) -> str:
    """Whether the job fits on nodes of a type, as far as that is known."""
    verdict = plan.candidate.verdict if plan.candidate else "unknown"
    sizes = {"topology.memory": plan.topology.node_bytes}
    if plan.topology.accelerator == "cuda":
        sizes["topology.accelerator.memory"] = plan.topology.device_bytes
    missing = [field for field, size in sizes.items() if size is None]
    if missing and verdict == "unknown":
        return f"not known: set {' and '.join(missing)} to what an instance has"
    return {"tight": "tight", "does not fit": "not expected to, but asked for"}.get(verdict, "yes")


def _equipment(name: str) -> tuple[str, str, str]:
    known = instance_type(name)
    if known is None:
        return "not known", "", ""
    gpus = f"{known.gpus} x {known.gpu}" if known.gpus else "none"
    return gpus, gib(known.gpu_bytes) if known.gpu_bytes else "", gib(known.node_bytes)


def _ranks(plan: Plan) -> tuple[str, str, str]:
    topology, batch = plan.topology, plan.batch
    ranks = f"{topology.world_size} = {topology.nodes} x {topology.ranks_per_node}"
    size = f"{batch.global_size} = {batch.micro} x {batch.accumulation} x {batch.data_parallel}"
    return ranks, size, plan.candidate.name if plan.candidate else ""


def _price(name: str, plan: Plan, prices: Mapping[str, float]) -> tuple[str, ...]:
    """Of all nodes, where there are prices."""
    if not prices:
        return ()
    return (f"{plan.topology.nodes * prices[name]:.2f}" if name in prices else "",)
