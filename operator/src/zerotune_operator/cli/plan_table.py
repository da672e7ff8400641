"""A plan as a person reads it."""

from __future__ import annotations

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from zerotune_operator.plan import Plan
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.sizing.memory import Rung, gib

_WIDTH_IN_A_PIPE = 240
_WIDTH_FOR_PARTS = 150

_PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "process")


def show(plan: Plan) -> None:
    """Print a plan; where the output is no terminal, without colours and with lines of their full length."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE, highlight=False)
    job = plan.config.job
    console.print(f"[bold]{job.kind} {job.name}[/bold] on {plan.backend}", soft_wrap=True)
    console.print(_facts(plan))
    if plan.ladder:
        console.print(_ladder(plan.ladder, parts=console.width >= _WIDTH_FOR_PARTS))
    for note in plan.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(f"files of a pod: {', '.join(plan.artifacts())} (-o yaml shows them)\n", markup=False, soft_wrap=True)


def _facts(plan: Plan) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(plan):
        table.add_row(name, text)
    return table


def _lines(plan: Plan) -> list[tuple[str, str]]:
    shape, topology, batch, config = plan.shape, plan.topology, plan.batch, plan.config
    hosts = plan.hostfile.hosts
    names = ", ".join(host.name for host in hosts[:4]) + (f", ... ({len(hosts)})" if len(hosts) > 4 else "")
    sizes = f"{shape.layers} layers, hidden {shape.hidden_size}, vocabulary {shape.vocab_size:,}"
    trains = isinstance(config, TrainConfig)
    unit = f"micro {batch.micro} x accumulation {batch.accumulation}" if trains else f"{batch.micro} records"
    ranks = f"{topology.world_size} = {topology.nodes} nodes x {topology.ranks_per_node} on {topology.accelerator}"
    lines = [
        ("model", f"{config.model.uri} ({shape.architecture}, {shape.parameters:,} parameters, {sizes})"),
        ("hosts", names),
        ("ranks", f"{ranks}, master {hosts[0].name}:{config.launch.master_port}"),
        ("batch", f"{batch.global_size} = {unit} x {batch.data_parallel} {'data-parallel ' if trains else ''}ranks"),
        ("precision", plan.precision),
        ("memory", _memory(plan)),
        ("output", str(config.output.uri)),
    ]
    if plan.generation:
        needs = plan.generation
        cache = f"weights {gib(needs.weights)}, keys and values up to {gib(needs.kv_cache)}"
        lines.append(("needs", f"{gib(needs.device_bytes)} a rank ({cache}), {gib(needs.node_bytes)} a node's host"))
    return lines


def _memory(plan: Plan) -> str:
    topology = plan.topology
    node = gib(topology.node_bytes) if topology.node_bytes else "not known (topology.memory)"
    if topology.accelerator == "cpu":
        return f"a node {node}"
    gpu = gib(topology.device_bytes) if topology.device_bytes else "not known (topology.accelerator.memory)"
    return f"a GPU {gpu}, a node {node}"


def _ladder(rungs: tuple[Rung, ...], *, parts: bool) -> Table:
    """The rungs; `parts` adds what the bytes of a rank are made of."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    names = ["a rank", *(_PARTS if parts else ()), "a node"]
    table.add_column("")
    table.add_column("rung")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for rung in rungs:
        sizes = [rung.device_bytes, *(getattr(rung, name) for name in _PARTS if parts), rung.node_bytes]
        style = "bold" if rung.taken else "dim" if rung.fits is False else None
        table.add_row(">" if rung.taken else "", rung.name, *map(gib, sizes), rung.reason, style=style)
    return table
