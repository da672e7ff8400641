"""Operators forked from one process that has imported what they run: to import it takes most of a start."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["uvloop", "zerotune_operator.cli.operator", "zerotune_operator.controller.process"])


def fork_operator(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> ForkServerProcess:
    """Start `zerotune operator` with more variables of the environment; what it prints is added to `log`."""
    process = _context.Process(target=_run, args=(list(arguments), dict(environment), log))
    process.start()
    return process


def _run(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    from kubernetes.aio.config import kube_config

    from zerotune_operator.cli import main

    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.update(environment)
    # The client reads the variable when it is imported.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = environment["KUBECONFIG"]
    sys.argv = ["zerotune", "operator", *arguments]
    main()
