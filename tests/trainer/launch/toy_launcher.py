"""`toy_launcher.py TOY FOLDER [launcher options]`: the launcher with ranks that import no torch, so they start at once.

The files of the job's folder have what a toy is to do; it reports to its launcher what a real rank would.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from zerotune_trainer.config import load_config
from zerotune_trainer.errors import DataError, PeerLostError, StoppedError, ZerotuneError
from zerotune_trainer.failures import describe
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.forkserver import start_imports
from zerotune_trainer.launching.heartbeat import Heartbeat
from zerotune_trainer.launching.logs import set_up_log
from zerotune_trainer.launching.node import run_node
from zerotune_trainer.launching.processes import become_subreaper, exit_now
from zerotune_trainer.launching.stopping import StopRequest
from zerotune_trainer.progress import Completion, Progress

STEPS = 3
COMPLETION = Completion(
    job_uid="uid",
    config_digest="0" * 64,
    uri="file:///results/\u00e9",
    files=2,
    bytes=300,
    progress=Progress(step=STEPS, total=STEPS, loss=0.25, eval_loss=0.5),
)


def step(rank: int, report: Heartbeat) -> None:
    """Makes its steps and is done: rank 0 says what came of it."""
    report.phase("training")
    for number in range(1, STEPS + 1):
        report.progress(Progress(step=number, total=STEPS, first_step=1, loss=1 / number))
    if rank == 0:
        report.completion(COMPLETION)


def steps_until_stopped(rank: int, report: Heartbeat) -> None:
    """Makes steps until it is asked to stop, then takes a moment to save."""
    report.phase("training")
    number = 0
    while not report.stop.wait(0.05):
        report.step(number := number + 1)
    time.sleep(1)
    print(f"rank {rank} has saved step {number}", flush=True)
    raise StoppedError(f"stopped on request after step {number}")


def data(rank: int, report: Heartbeat) -> None:
    """Prepares data for ever, with a worker process, in code that checks no event."""
    report.phase("data")
    subprocess.run(["sleep", "1000"])


def in_c_code(rank: int, report: Heartbeat) -> None:
    """Waits in C, where Python runs no signal handler, as gloo does for a peer: locks a mutex twice."""
    report.phase("rendezvous")
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


def workers(rank: int, report: Heartbeat) -> None:
    """Ends worker processes with SIGTERM, as `datasets` does."""
    report.phase("data")
    running = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,)) for _ in range(20)]
    for worker in running:
        worker.start()
        worker.terminate()
        worker.join(10)
    time.sleep(0.5)
    if [worker.exitcode for worker in running] != [-15] * 20 or report.stop.is_set():
        raise DataError(f"workers ended with {[worker.exitcode for worker in running]}, stop is {report.stop.is_set()}")


def waits(rank: int, report: Heartbeat) -> None:
    """Makes a step and then none, but its heart beats."""
    report.phase("training")
    report.step(7)
    time.sleep(1000)


def stops_late(rank: int, report: Heartbeat) -> None:
    """Is asked to stop in the middle of a step that takes long."""
    report.phase("training")
    report.step(7)
    report.stop.wait()
    time.sleep(10)
    raise StoppedError("stopped on request after step 8")


def dies_of_abort(rank: int, report: Heartbeat) -> None:
    """Is ended as PyTorch's watchdog does it."""
    report.phase("training")
    os.abort()


def aborts_in_a_stop(rank: int, report: Heartbeat) -> None:
    """Is asked to stop, and ended as PyTorch's watchdog does it."""
    report.phase("training")
    report.step(7)
    report.stop.wait()
    os.abort()


def fails(rank: int, report: Heartbeat) -> None:
    """Rank 1 finds a bad record; the others then lose a peer, rank 2 without noticing."""
    report.phase("training")
    report.step(5)
    if rank == 1:
        time.sleep(0.5)
        raise DataError("part-1.jsonl:3: not JSON", "mend the line")
    time.sleep(1000 if rank == 2 else 0.8)
    raise PeerLostError("Connection reset by peer")


def completes_then_fails(rank: int, report: Heartbeat) -> None:
    """Rank 0 says that the result is complete; a moment later rank 1 fails."""
    report.phase("saving")
    if rank == 0:
        report.completion(COMPLETION)
    else:
        time.sleep(2)
        raise DataError("found late", "")


def loses_peer(rank: int, report: Heartbeat) -> None:
    """Loses a peer on another host."""
    report.phase("training")
    raise PeerLostError("Connection reset by peer")


def leaves(rank: int, report: Heartbeat) -> None:
    """Exits with 0 in the middle of its work, as a library may."""
    report.phase("training")
    os._exit(0)


TOYS: dict[str, Callable[[int, Heartbeat], None]] = {
    toy.__name__: toy
    for toy in (
        step,
        steps_until_stopped,
        data,
        in_c_code,
        workers,
        waits,
        stops_late,
        dies_of_abort,
        aborts_in_a_stop,
        fails,
        completes_then_fails,
        loses_peer,
        leaves,
    )
}


def run_toy(folder: Path, host: str, local_rank: int, pipe: Connection) -> None:
    """What `worker.run_rank` is to real ranks."""
    rank = Hostfile.parse((folder / "hostfile").read_text()).host(host).first_rank + local_rank
    report = Heartbeat(rank, pipe)
    report.start()
    try:
        TOYS[(folder / "toy").read_text()](rank, report)
    except ZerotuneError as error:
        report.finish(describe(error))
        exit_now(error.exit_code)
    report.finish(None)
    exit_now(0)


def main() -> None:
    folder, host, termination_log = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    set_up_log(host)
    become_subreaper()
    stop = StopRequest()
    stop.catch_signals()
    if (folder / "config.json").is_file():
        start_imports([], load_config(folder).launch)
    exit_now(run_node(folder, host, termination_log, stop=stop, target=run_toy))


if __name__ == "__main__":
    main()
