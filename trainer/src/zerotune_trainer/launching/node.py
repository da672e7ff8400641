"""A node's part of a job, from reading the folder to the exit code. Torch-free.

read the folder, which must be this pod's > start the imports > serve /progress > wait for the names > start the ranks >
wait for their end
"""

from __future__ import annotations

import logging
from pathlib import Path

from zerotune_trainer.addresses import listen, listening_address
from zerotune_trainer.config import TrainConfig, load_config
from zerotune_trainer.errors import Failure, InputMissingError, StoppedError, ZerotuneError
from zerotune_trainer.failures import classify, describe
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.forkserver import RankTarget, remove_socket, start_imports
from zerotune_trainer.launching.identity import require_own_config, this_host
from zerotune_trainer.launching.modules import ENVIRONMENT, payload_of
from zerotune_trainer.launching.names import wait_for_names
from zerotune_trainer.launching.serve import ProgressServer
from zerotune_trainer.launching.stopping import StopRequest
from zerotune_trainer.launching.supervisor import Supervisor
from zerotune_trainer.launching.termination import TerminationLog
from zerotune_trainer.launching.worker import run_rank
from zerotune_trainer.progress import Completion

_logger = logging.getLogger(__name__)


def run_node(
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
        host: This host's name in the hostfile; default as in `identity.this_host`.
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
        log = TerminationLog(termination_log)  # First: a stop may have been asked for already.
        stop.raise_from_now()
        outcome = _run(folder, host, stop, target)
    except ZerotuneError as error:
        outcome = describe(error, host=host)
    except Exception as error:
        _logger.exception("the launcher failed")
        outcome = describe(classify(error), host=host)
    remove_socket()
    return _conclude(outcome, log)


def _run(folder: Path, name: str | None, stop: StopRequest, target: RankTarget) -> Failure | Completion | None:
    config = load_config(folder)
    require_own_config(config)
    launch = config.launch
    hosts = _read_hostfile(folder)
    host = this_host(hosts, name)
    hostfile = hosts.of_replica(hosts.replica_of(host, launch.replicas), launch.replicas)
    host = hostfile.host(host.name)
    _logger.info("%s, attempt %d: host %s of %d", config.job.name, config.job.attempt, host.name, len(hosts.hosts))
    payload = payload_of(config.kind, config.method if isinstance(config, TrainConfig) else None)
    start_imports([payload, ENVIRONMENT], launch)
    if host == hostfile.master:
        listen(host.name, launch.master_port, "for the rendezvous").close()
    supervisor = Supervisor(folder, config, hostfile, host, stop.event)
    # Served before anything is waited for: what it is must be seen from outside.
    with ProgressServer(listening_address(host.name), launch.progress_port, supervisor.observe):
        wait_for_names([each.name for each in hostfile.hosts], launch, supervisor.note_waiting)
        supervisor.start(target)
        stop.no_longer_raise()
        return supervisor.run()


def _read_hostfile(folder: Path) -> Hostfile:
    path = folder / "hostfile"
    if not path.is_file():
        raise InputMissingError(f"{path} is not there", "a job's folder has config.json, hostfile and deepspeed.json")
    return Hostfile.parse(path.read_text(encoding="utf-8"))


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
