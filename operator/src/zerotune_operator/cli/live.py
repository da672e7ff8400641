"""How `zerotune run` shows a job: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.lifecycle.observation import Observation
from zerotune_operator.plan import Plan
from zerotune_trainer.counting import counted

_SECONDS_BETWEEN_LINES = 5.0
_SHARE_BETWEEN_LINES = 0.02


class _Messages(ABC):
    """What is printed of a job however it is shown."""

    def restarting(self, cause: RootCause, seconds: float) -> None:
        """Print why, and when it goes on."""
        self.show(_restart(cause, seconds))

    def lost(self, failure: str) -> None:
        """Print why a replica is started again."""
        self.show(_lost(failure))

    def warned(self, text: str) -> None:
        """Print what the ranks warn of."""
        self.show(f"warning: {text}")

    def stopping(self) -> None:
        """Print what Ctrl-C does."""
        self.show(_STOPPING)

    @abstractmethod
    def show(self, text: str) -> None:
        """Print a line, with the job's name before it."""


class PlainView(_Messages):
    """A line for every phase, and one every few seconds while steps are made."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._phases: set[str] = set()
        self._step = -1
        self._began_at = self._printed_at = time.monotonic()

    def planned(self, plan: Plan, attempt: int) -> None:
        """Print what is about to start."""
        self._phases.clear()
        self.show(_essentials(plan, attempt))

    def observed(self, status: JobStatus, seen: Observation) -> None:
        """Print what is new."""
        phase, step = rank_phase(seen), status.progress.step if status.progress else -1
        if phase and (phase not in self._phases or (step != self._step and self._is_due())):
            self.show(f"{phase}  {figures(status)}".rstrip())
            self._phases.add(phase)
            self._step = step

    def _is_due(self) -> bool:
        """Every few seconds at first, ever more seldom later: the log of a long job stays readable."""
        now = time.monotonic()
        return now - self._printed_at >= max(_SECONDS_BETWEEN_LINES, _SHARE_BETWEEN_LINES * (now - self._began_at))

    def show(self, text: str) -> None:
        """Print a line, with the job's name before it."""
        self._printed_at = time.monotonic()
        typer.echo(f"{self._name}: {text}")

    def close(self) -> None:
        """Nothing is left on the screen."""


class LiveView(_Messages):
    """A bar with step, loss, tokens per second and time to go."""

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            TextColumn("{task.fields[phase]:<10}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
        )
        self._task: TaskID | None = None

    def planned(self, plan: Plan, attempt: int) -> None:
        """Print what is about to start, and show the bar."""
        self.show(_essentials(plan, attempt))
        self._progress.start()
        if self._task is None:
            self._task = self._progress.add_task(self._name, total=None, phase="starting", figures="")

    def observed(self, status: JobStatus, seen: Observation) -> None:
        """Move the bar."""
        if self._task is None:
            return
        made = status.progress
        self._progress.update(
            self._task,
            total=made.total if made else None,
            completed=made.step if made else 0,
            phase=(rank_phase(seen) or "starting") if status.phase == "Running" else str(status.phase).lower(),
            figures=figures(status),
        )

    def show(self, text: str) -> None:
        """Print above the bar."""
        self._console.print(f"{self._name}: {text}", highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        self._progress.stop()


def view_for(name: str) -> PlainView | LiveView:
    """The view that suits standard output."""
    console = Console()
    return LiveView(name, console) if console.is_terminal else PlainView(name)


def rank_phase(seen: Observation) -> str:
    """What the first rank does now; empty before it reports that."""
    reports = [node.progress for node in seen.nodes if node.progress and node.progress.ranks]
    return reports[0].ranks[0].phase if reports else ""


def figures(status: JobStatus) -> str:
    """Step, loss, tokens per second, time to go: what there is of them."""
    shown = status.display
    if shown is None:
        return ""
    parts = [
        f"{shown.step}",
        f"loss {shown.loss}" if shown.loss else "",
        f"{shown.tokens_per_second} tokens/s" if shown.tokens_per_second else "",
        f"{shown.eta} to go" if shown.eta else "",
    ]
    return "  ".join(part for part in parts if part)


_STOPPING = "stopping after a checkpoint; once more Ctrl-C kills it"


def _essentials(plan: Plan, attempt: int) -> str:
    summary = plan.summary()
    batch = f"batch {summary.global_batch_size} = {summary.per_device_batch_size}"
    batch += f" x {summary.gradient_accumulation_steps} accumulated" if summary.gradient_accumulation_steps else ""
    zero = f", ZeRO {summary.zero_stage}" if summary.zero_stage is not None else ""
    ranks = counted(summary.world_size, "rank")
    types = ", else ".join(each.instance_type for each in summary.instance_types)
    first = f" on the first of {types}" if types else ""
    replicas = f"{counted(summary.replicas, 'replica')}, " if summary.replicas > 1 else ""
    nodes = counted(summary.nodes, "node")
    return f"attempt {attempt}: {replicas}{nodes}, {ranks}, {batch} x {ranks}{zero}{first}"


def _lost(failure: str) -> str:
    return f"{failure}; it is started again alone, and the others go on"


def _restart(cause: RootCause, seconds: float) -> str:
    when = f"in {seconds:.0f} s" if round(seconds) else "at once"
    begins = f"goes on {when}, from its last checkpoint if there is one"
    return f"failed ({cause.failure_class}): {cause.message}; {begins}"
