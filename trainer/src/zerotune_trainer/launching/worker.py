"""A rank, from the fork to its exit code. Torch-free itself: what trains is loaded by name (see `modules`)."""

from __future__ import annotations

import gc
import importlib
import logging
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from zerotune_trainer.config import InferConfig, Launch, TrainConfig, load_config
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import Failure, StoppedError
from zerotune_trainer.failures import classify, describe, or_stopped
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.heartbeat import Heartbeat
from zerotune_trainer.launching.logs import set_up_log
from zerotune_trainer.launching.modules import ENVIRONMENT, payload_of
from zerotune_trainer.launching.processes import exit_now

_logger = logging.getLogger(__name__)


def run_rank(folder: Path, host: str, local_rank: int, pipe: Connection) -> NoReturn:
    """Do a rank's share of the job and exit with the code of what came of it.

    Args:
        folder: The job's folder.
        host: This host's name in the hostfile.
        local_rank: Which of this host's ranks it is.
        pipe: The line to the launcher, for each `HeartbeatMessage`.
    """
    # What was imported stays: nobody need traverse it again, nor copy its pages for that.
    gc.freeze()
    gc.enable()
    config = load_config(folder)
    replicas, hosts = config.launch.replicas, Hostfile.parse((folder / "hostfile").read_text(encoding="utf-8"))
    replica = hosts.replica_of(hosts.host(host), replicas)
    hostfile = hosts.of_replica(replica, replicas)
    here = hostfile.host(host)
    heartbeat = Heartbeat(here.first_rank + local_rank, pipe)
    heartbeat.start()
    context = RankContext(folder, hostfile, here, local_rank, heartbeat, heartbeat.stop, replica, replicas)
    failure = _work(config, context)
    heartbeat.finish(failure)
    exit_now(failure.exit_code if failure else 0)


def rank_variables(context: RankContext, master_port: int) -> dict[str, str]:
    """The environment by which torch, accelerate and DeepSpeed know a rank's place."""
    return {
        "RANK": str(context.rank),
        "LOCAL_RANK": str(context.local_rank),
        "WORLD_SIZE": str(context.world_size),
        "LOCAL_WORLD_SIZE": str(context.host.slots),
        "LOCAL_SIZE": str(context.host.slots),
        "CROSS_RANK": str(context.hostfile.hosts.index(context.host)),
        "CROSS_SIZE": str(len(context.hostfile.hosts)),
        "MASTER_ADDR": context.hostfile.master.name,
        "MASTER_PORT": str(master_port),
    }


def _work(config: TrainConfig | InferConfig, context: RankContext) -> Failure | None:
    set_up_log(f"rank {context.rank}", logging.INFO if context.local_rank == 0 else logging.WARNING)
    try:
        os.environ.update(rank_variables(context, config.launch.master_port))
        _check_node(context, config.launch)
        _do(config, context)
    except StoppedError as stopped:
        _logger.info("rank %d: %s", context.rank, stopped.message)
        return describe(stopped)
    except (Exception, SystemExit) as error:
        _logger.exception("rank %d failed", context.rank)
        return describe(or_stopped(classify(error), stopping=context.stop.is_set()))
    return None


def _check_node(context: RankContext, launch: Launch) -> None:
    module = importlib.import_module(ENVIRONMENT)
    module.check_devices(context.host, launch)
    if context.local_rank == 0:
        _logger.info("environment %s", module.environment(context.host, launch).model_dump_json(by_alias=True))


def _do(config: TrainConfig | InferConfig, context: RankContext) -> None:
    name = payload_of(config.kind, config.method if isinstance(config, TrainConfig) else None)
    getattr(importlib.import_module(name), name.rpartition(".")[2])(config, context)
