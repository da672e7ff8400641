"""A plan as a person reads it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from zerotune_operator.cli.instance_table import instance_table
from zerotune_operator.plan import Plan
from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.counting import counted
from zerotune_trainer.sizing.workload import GIB, Workload, gib

_WIDTH_IN_A_PIPE = 400
_WIDTH_FOR_PARTS = 170
_LEAST_WIDTH = 80
"""In which the table still has whole words; a narrower terminal breaks its lines."""

_PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "step", "process")
_PARTS_OF_A_NODE = ("host_bytes", "saving")
_TITLES = {"host_bytes": "host of a rank"}


def show(plan: Plan, facts: Sequence[tuple[str, str]], prices: Mapping[str, float]) -> None:
    """Print a plan; where the output is no terminal, without colours and with lines as long as their text.

    Args:
        plan: The plan.
        facts: What the backend says of where it runs.
        prices: USD that an instance costs an hour, by instance type, where somebody gave them.
    """
    width = max(Console().width, _LEAST_WIDTH) if sys.stdout.isatty() else _WIDTH_IN_A_PIPE
    console = Console(width=width, highlight=False)
    with console.capture() as printed:
        _print(plan, facts, prices, console)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


def _print(plan: Plan, facts: Sequence[tuple[str, str]], prices: Mapping[str, float], console: Console) -> None:
    job = plan.config.job
    first = f", as it is on {plan.instance_type}" if plan.alternatives else ""
    console.print(f"[bold]{job.kind} {job.name}[/bold] on {plan.backend}{first}", soft_wrap=True)
    console.print(_facts([*_lines(plan), *facts, *_cost(plan, prices)]))
    if plan.alternatives or plan.left_out:
        console.print(instance_table(plan, prices))
    if plan.workload is not None:
        wide = console.width >= _WIDTH_FOR_PARTS
        console.print(_candidates(plan, plan.workload, parts=wide))
        if not wide:
            console.print(_parts(plan))
    for note in plan.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(
        f"files of a node: {', '.join(plan.artifacts())} (-o yaml shows them)\n", markup=False, soft_wrap=True
    )


def _facts(lines: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines:
        table.add_row(name, text)
    return table


def _cost(plan: Plan, prices: Mapping[str, float]) -> list[tuple[str, str]]:
    """Of a job on one instance type: the table of several has theirs."""
    price = prices.get(plan.instance_type or "")
    if plan.alternatives or price is None:
        return []
    return [("cost", f"{plan.topology.nodes * price:.2f} USD an hour for all nodes")]


def _adapter(plan: Plan) -> list[tuple[str, str]]:
    if plan.workload is None or not plan.workload.adapter_parameters:
        return []
    count = plan.workload.adapter_parameters
    return [("adapter", f"{count:,} parameters ({count / plan.shape.parameters:.2%} of the model's)")]


def _lines(plan: Plan) -> list[tuple[str, str]]:
    shape, topology, batch, config = plan.shape, plan.topology, plan.batch, plan.config
    hosts = plan.hostfile.hosts
    names = ", ".join(host.name for host in hosts[:4]) + (f", ... ({len(hosts)})" if len(hosts) > 4 else "")
    sizes = f"{counted(shape.layers, 'layer')}, hidden {shape.hidden_size}, vocabulary {shape.vocab_size:,}"
    trains = isinstance(config, TrainConfig)
    unit = f"micro {batch.micro} x accumulation {batch.accumulation}" if trains else counted(batch.micro, "record")
    replicas = f"{counted(topology.replicas, 'replica')} x " if topology.replicas > 1 else ""
    nodes = counted(topology.nodes, "node")
    ranks = f"{topology.all_ranks} = {replicas}{nodes} x {topology.ranks_per_node} on {topology.accelerator}"
    share = "data-parallel rank" if trains else "rank"
    lines = [
        ("model", f"{config.model.uri} ({shape.architecture}, {shape.parameters:,} parameters, {sizes})"),
        *_adapter(plan),
        ("hosts", names),
        ("ranks", f"{ranks}, master {hosts[0].name}:{config.launch.master_port}"),
        ("batch", f"{batch.global_size} = {unit} x {counted(batch.data_parallel, share)}"),
        ("rows", _rows(plan)),
        *_general_text(config),
        ("precision", plan.precision),
        ("memory", _memory(plan)),
        ("output", str(config.output.uri)),
    ]
    if plan.generation:
        needs = plan.generation
        gathered = f", gathered {gib(needs.gathered)}" if needs.gathered else ""
        in_memory = f" but for {gib(needs.in_memory)}" if needs.in_memory else ""
        on_disk = f" on disk{in_memory}, buffers {gib(needs.buffers)}" if needs.buffers else ""
        cache = f"weights {gib(needs.weights)}{on_disk}{gathered}, keys and values up to {gib(needs.kv_cache)}"
        lines.append(("needs", f"{gib(needs.device_bytes)} a rank ({cache}), {gib(needs.node_bytes)} a node's host"))
    return lines


def _memory(plan: Plan) -> str:
    topology = plan.topology
    node = gib(topology.node_bytes) if topology.node_bytes else "not known (topology.memory)"
    if topology.accelerator == "cpu":
        return f"a node {node}"
    gpu = gib(topology.device_bytes) if topology.device_bytes else "not known (topology.accelerator.memory)"
    return f"a GPU {gpu}, a node {node}"


def _rows(plan: Plan) -> str:
    """What of a row decides how much memory it takes."""
    length, attention = plan.config.data.max_length, plan.config.model.attn_implementation
    parts = [f"up to {length} tokens" if length else "of any length", f"attention {attention}"]
    if isinstance(plan.config, TrainConfig):
        training = plan.config.training
        section = (plan.deepspeed or {}).get("optimizer") or {}
        parts.append(f"gradient checkpointing {'on' if training.gradient_checkpointing else 'off'}")
        parts.append(f"optimizer {section.get('type') or training.arguments.get('optim', 'adamw_torch_fused')}")
    return ", ".join(parts)


def _general_text(config: TrainConfig | InferConfig) -> list[tuple[str, str]]:
    """What is mixed in of general text, and what is measured on control texts."""
    if isinstance(config, InferConfig):
        return []
    replay, evaluation = config.data.replay, config.evaluation
    lines = [("replay", f"{replay.share:.3g} of all tokens, from {', '.join(replay.uris)}")] if replay else []
    if evaluation.control is not None:
        increase = evaluation.max_control_perplexity_increase
        limit = (
            "no limit" if increase is None else f"perplexity may rise by {increase:.3g} of what it is before training"
        )
        lines.append(("control", f"{', '.join(evaluation.control.uris)}, {limit}"))
    return lines


def _candidates(plan: Plan, workload: Workload, *, parts: bool) -> Table:
    """The candidates; `parts` adds what the bytes of a rank and of a node are made of."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("candidate", overflow="fold")
    names = [*(_PARTS if parts else ()), *(_PARTS_OF_A_NODE if parts else ())]
    device, node = (None if workload.on_cpu else workload.device_bytes), workload.node_bytes
    for name in ("a rank", "of a GPU", *_PARTS, "a node", "of it", *_PARTS_OF_A_NODE):
        if name in names or name not in (*_PARTS, *_PARTS_OF_A_NODE):
            table.add_column(_TITLES.get(name, name), justify="right", no_wrap=True)
    table.add_column("why")
    for candidate in plan.candidates:
        sizes = [
            *(gib(candidate.device_bytes), _percent(candidate.device_bytes, device)),
            *(gib(getattr(candidate, name)) for name in _PARTS if parts),
            *(gib(candidate.node_bytes), _percent(candidate.node_bytes, node)),
            *(gib(getattr(candidate, name)) for name in _PARTS_OF_A_NODE if parts),
        ]
        style = "bold" if candidate.taken else "dim" if candidate.verdict == "does not fit" else None
        table.add_row(">" if candidate.taken else "", candidate.name, *sizes, candidate.reason, style=style)
    return table


def _percent(needed: int, there: int | None) -> str:
    return f"{needed / there:.0%}" if there else "-"


def _parts(plan: Plan) -> Table:
    """What the bytes of a rank and of a node are made of, a part a line, for a narrow terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("GiB", no_wrap=True)
    for number, _ in enumerate(plan.candidates, 1):
        table.add_column(f"({number})", justify="right", no_wrap=True)
    for name in (*_PARTS, *_PARTS_OF_A_NODE):
        table.add_row(_TITLES.get(name, name), *(_number(getattr(each, name)) for each in plan.candidates))
    return table


def _number(count: int) -> str:
    """GiB in few digits."""
    return f"{count / GIB:.1f}" if count >= 10 * GIB else f"{count / GIB:.3f}"
