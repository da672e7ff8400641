"""What `zerotune run` shows on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import StringIO

from rich.console import Console
from rich.text import Text

from tests.unit.local.planning import plan_here
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus, RootCause, display
from zerotune_operator.backends.local.home import Home
from zerotune_operator.cli.live import LiveView
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_trainer.progress import NodeProgress, Progress, RankProgress


def _running(step: int) -> JobStatus:
    progress = Progress(step=step, total=9, loss=2.5, tokens_per_second=1234.5, eta_seconds=61)
    return JobStatus(phase="Running", progress=progress, display=display(progress))


def _training() -> Observation:
    rank = RankProgress(rank=0, phase="training", heartbeat_age_seconds=0, step_age_seconds=0)
    node = NodeProgress(job="cwe", attempt=0, host="127.0.0.1", ranks=[rank])
    return Observation(0, (NodeObservation("127.0.0.1", "running", progress=node),))


def test_a_bar_moves_while_steps_are_made(home: Home, job: Callable[..., Job]) -> None:
    terminal = StringIO()
    view = LiveView("cwe", Console(file=terminal, force_terminal=True, width=120))
    view.observed(JobStatus(phase="Pending"), Observation(0, ()))
    assert terminal.getvalue() == "", "nothing is shown before there is a plan"

    view.planned(plan_here(job(topology={"nodes": 2}), home.job("FineTuneJob", "cwe"), home, 0), 0)
    view.observed(_running(3), _training())
    deadline = time.monotonic() + 10
    while (early := _bars(terminal)[-1]) == "cwe starting" and time.monotonic() < deadline:
        time.sleep(0.05)  # the screen is drawn a few times a second
    assert early == "cwe training 3/9 loss 2.5 1234 tokens/s 1m1s to go"
    view.restarting(RootCause(failure_class="Killed", message="rank 1 was killed"), 2)
    view.restarting(RootCause(failure_class="Killed", message="rank 0 was killed"), 0)
    view.observed(_running(8), _training())
    view.stopping()
    view.close()

    assert _bars(terminal)[-1] == "cwe training 8/9 loss 2.5 1234 tokens/s 1m1s to go", "the last state stays"
    assert [line for line in _lines(terminal) if line.startswith("cwe: ")] == [
        "cwe: attempt 0: 2 nodes, 2 ranks, batch 4 = 2 x 1 accumulated x 2 ranks, ZeRO 0",
        "cwe: failed (Killed): rank 1 was killed; goes on in 2 s, from its last checkpoint if there is one",
        "cwe: failed (Killed): rank 0 was killed; goes on at once, from its last checkpoint if there is one",
        "cwe: stopping after a checkpoint; once more Ctrl-C kills it",
    ]


def _lines(terminal: StringIO) -> list[str]:
    """Everything that was drawn, without colours."""
    return Text.from_ansi(terminal.getvalue().replace("\r", "\n")).plain.splitlines()


def _bars(terminal: StringIO) -> list[str]:
    """The bar's line at each drawing, without the bar itself."""
    drawn = [line.split() for line in _lines(terminal) if line.startswith("cwe ")]
    return [" ".join(cell for cell in cells if not set(cell) <= set("━╸╺")) for cells in drawn]
