"""`zerotune-launch FOLDER`: runs this node's ranks of a job and exits with a code that says what came of it.

Torch is imported once a node, by the forkserver. That takes most of a start, so it begins before anything else, the
launcher's own imports included: what this module imports at its top is of the standard library alone, directly and
indirectly. Exit codes: see `errors`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from zerotune_trainer.launching.forkserver import start_imports_of
from zerotune_trainer.launching.logs import set_up_log
from zerotune_trainer.launching.stopping import StopRequest


def main() -> NoReturn:
    """The command."""
    options = _parser().parse_args()
    set_up_log(options.host or "launcher")
    stop = StopRequest()
    stop.catch_signals()
    if options.stop_on_eof:
        threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    start_imports_of(options.folder)
    from zerotune_trainer.launching.node import run_node
    from zerotune_trainer.launching.processes import become_subreaper, exit_now

    become_subreaper()
    exit_now(run_node(options.folder, options.host, options.termination_log, stop=stop))


def _stop_at_end_of_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("zerotune-launch", description="Run this node's ranks of a job.")
    parser.add_argument("folder", type=Path, help="the job's folder: config.json, hostfile, deepspeed.json")
    parser.add_argument("--host", help="this host's name in the hostfile (default: $ZEROTUNE_HOST, else the host name)")
    parser.add_argument(
        "--termination-log", type=Path, help="gets what came of it as JSON (default: /dev/termination-log)"
    )
    parser.add_argument(
        "--stop-on-eof", action="store_true", help="stop as on SIGTERM when standard input ends, with whoever holds it"
    )
    return parser
