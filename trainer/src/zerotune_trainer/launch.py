"""`zerotune-launch FOLDER`: runs this node's ranks of a job and exits with a code that says what came of it.

    read the folder > start the imports > wait for the names > serve /progress > start the ranks > wait for their end

Torch is imported once a node, by the forkserver, while the names are waited for. Exit codes: see `errors`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from zerotune_trainer.config import load_config
from zerotune_trainer.errors import Failure, InputMissingError, StoppedError, ZerotuneError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.failures import classify, describe
from zerotune_trainer.launching.forkserver import RankTarget, start_imports
from zerotune_trainer.launching.logs import set_up_log
from zerotune_trainer.launching.processes import adopt_orphans, exit_now
from zerotune_trainer.launching.resolve import listening_address, require_free_port, this_host, wait_for_names
from zerotune_trainer.launching.serve import ProgressServer
from zerotune_trainer.launching.supervisor import Supervisor
from zerotune_trainer.launching.termination import TerminationLog
from zerotune_trainer.launching.worker import ENVIRONMENT_MODULE, payload, run_rank
from zerotune_trainer.progress import Completion

_logger = logging.getLogger(__name__)


class StopRequest:
    """SIGTERM or SIGINT: before there are ranks it ends the launch at once, later it asks the ranks to stop."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._raises = False

    def catch_signals(self) -> None:
        """Let SIGTERM and SIGINT be requests. Called in the main thread."""
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    def raise_from_now(self) -> None:
        """From now on a request raises StoppedError in the main thread, and so does one that was made already."""
        self._raises = True
        if self.event.is_set():
            self._raise()

    def no_longer_raise(self) -> None:
        """From now on a request only sets `event`."""
        self._raises = False

    def _receive(self, *_: object) -> None:
        self.event.set()
        if self._raises:
            self._raise()

    def _raise(self) -> NoReturn:
        self._raises = False  # A second signal must not disturb what the first one began.
        raise StoppedError("stopped on request before the ranks ran: there was nothing to save")


def main() -> NoReturn:
    """The command."""
    options = _parser().parse_args()
    set_up_log(options.host or "launcher")
    adopt_orphans()
    stop = StopRequest()
    stop.catch_signals()
    if options.stop_on_eof:
        threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    exit_now(launch(options.folder, options.host, options.termination_log, stop=stop))


def launch(
    folder: Path,
    host: str | None = None,
    termination_log: Path | None = None,
    *,
    stop: StopRequest | None = None,
    target: RankTarget = run_rank,
) -> int:
    """Run this node's ranks of the job in `folder` to their end.

    Args:
        folder: The job's folder: `config.json`, `hostfile`, `deepspeed.json`.
        host: This host's name in the hostfile; default as in `resolve.this_host`.
        termination_log: File that gets a failure, or on the host of rank 0 the completion, as JSON; default as in
            `TerminationLog`.
        stop: Says when to stop; its signals are the caller's to catch.
        target: What a rank runs.

    Returns:
        The exit code: 0 where every rank of this node did its work, else that of the root cause.
    """
    stop = stop or StopRequest()
    log: TerminationLog | None = None
    outcome: Failure | Completion | None
    try:
        stop.raise_from_now()
        log = TerminationLog(termination_log)
        outcome = _run(folder, host, stop, target)
    except ZerotuneError as error:
        outcome = describe(error, host=host)
    except Exception as error:
        _logger.exception("the launcher failed")
        outcome = describe(classify(error), host=host)
    return _conclude(outcome, log)


def _run(folder: Path, name: str | None, stop: StopRequest, target: RankTarget) -> Failure | Completion | None:
    config = load_config(folder)
    hostfile = _read_hostfile(folder)
    host = this_host(hostfile, name)
    launch = config.launch
    _logger.info("%s, attempt %d: host %s of %d", config.job.name, config.job.attempt, host.name, len(hostfile.hosts))
    start_imports([payload(config), ENVIRONMENT_MODULE], launch)
    if host == hostfile.master:
        require_free_port(launch.master_port, "where the ranks meet")
    supervisor = Supervisor(folder, config, hostfile, host, stop.event)
    wait_for_names([host.name], launch.name_resolution_timeout_seconds)
    with ProgressServer(listening_address(host.name), launch.progress_port, supervisor.observe):
        wait_for_names([other.name for other in hostfile.hosts], launch.name_resolution_timeout_seconds)
        supervisor.start(target)
        stop.no_longer_raise()
        return supervisor.run()


def _read_hostfile(folder: Path) -> Hostfile:
    path = folder / "hostfile"
    if not path.is_file():
        raise InputMissingError(f"{path} is not there", "a job's folder has config.json, hostfile and deepspeed.json")
    return Hostfile.parse(path.read_text())


def _stop_at_end_of_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _conclude(outcome: Failure | Completion | None, log: TerminationLog | None) -> int:
    if outcome is not None and log is not None:
        log.write(outcome)
    if isinstance(outcome, Failure):
        _log_failure(outcome)
        return outcome.exit_code
    _logger.info("all ranks of this host are done")
    return 0


def _log_failure(failure: Failure) -> None:
    level = logging.INFO if failure.failure_class == StoppedError.failure_class else logging.ERROR
    _logger.log(level, "%s, exit code %d: %s", failure.failure_class, failure.exit_code, failure.message)
    if failure.hint:
        _logger.log(level, "hint: %s", failure.hint)


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
