"""The process of a node that pays for the imports once and that the ranks are forked from.

It is multiprocessing's forkserver. What to know about it (CPython 3.11, Lib/multiprocessing/forkserver.py): an
ImportError while it preloads is swallowed, and then happens again in the rank, where it is reported; it passes a
rank's end on as exit code or minus the signal; it ends when the launcher and all ranks have. What is imported here
at the top is of the standard library, see `launch`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import forkserver, util
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zerotune_trainer.launching.modules import ENVIRONMENT, payload_of

if TYPE_CHECKING:
    from zerotune_trainer.config import Launch

RankTarget = Callable[[Path, str, int, Connection], object]
"""What a rank runs: `worker.run_rank`."""

_LONGEST_FOLDER = 75
"""Bytes that the path of the folder for temporary files may have, see `_make_short_folder`."""
_context = multiprocessing.get_context("forkserver")


class Compute(NamedTuple):
    """What of `config.Launch` imports depend on."""

    accelerator: str
    threads_per_rank: int


def node_variables(launch: Launch | Compute) -> dict[str, str]:
    """The environment that imports read, so it must be there before them."""
    variables = {
        "DS_ACCELERATOR": launch.accelerator,
        "OMP_NUM_THREADS": str(launch.threads_per_rank),
        # Else tokenizers warns, and stops using threads, when a rank starts workers.
        "TOKENIZERS_PARALLELISM": "false",
        # Also where a library asks torch.load to run what a file says: whoever writes a checkpoint writes no code.
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        # Whether there is a GPU is asked of NVML: asking CUDA would make it useless in forked ranks.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        # The forkserver is a `python -c`, whose path begins with the current folder: a `datasets.py` there is not ours.
        "PYTHONSAFEPATH": "1",
    }
    return variables | ({"CUDA_VISIBLE_DEVICES": ""} if launch.accelerator == "cpu" else {})


def start_imports_of(folder: Path) -> None:
    """Start the imports for the job in `folder`, its `config.json` not yet checked: checking takes imports itself.

    Where too little of it can be read, nothing is started: who then reads it whole says what is wrong with it.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        payload, launch = payload_of(config["kind"], config.get("method")), config["launch"]
        compute = Compute(str(launch["accelerator"]), launch["threadsPerRank"])
        start_imports([payload, ENVIRONMENT], compute)
    except (LookupError, OSError, RecursionError, TypeError, ValueError):
        return


def start_imports(modules: list[str], launch: Launch | Compute) -> None:
    """Start the forkserver, which begins to import. Returns at once; a second call in a process changes nothing."""
    os.environ.update(node_variables(launch))
    _make_short_folder()
    first = ("zerotune_trainer.launching.uncollected", "zerotune_trainer.without_bitsandbytes")
    _context.set_forkserver_preload([*first, *modules])
    with _SigintIgnored():
        forkserver.ensure_running()


def _make_short_folder() -> None:
    """Make multiprocessing's folder, for the sockets of this launcher, where its name is short enough for one.

    The path of a socket has 107 bytes at most, and 32 of them are multiprocessing's own.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER:
        return
    former, tempfile.tempdir = tempfile.tempdir, "/tmp"  # noqa: S108 - the folder in it is made for this user alone
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = former


def start_rank(target: RankTarget, folder: Path, host: str, local_rank: int) -> tuple[ForkServerProcess, Connection]:
    """Fork a rank once the imports are done. Returns its process and the end of the pipe at which its messages arrive.

    Raises:
        InternalError: the forkserver died, such as of an import that crashed.
    """
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=target, args=(folder, host, local_rank, theirs), name=f"local-rank-{local_rank}")
    try:
        process.start()
    except (OSError, EOFError) as error:
        from zerotune_trainer.errors import InternalError  # Brings pydantic.

        raise InternalError(
            f"the process that starts the ranks died while it imported: {error!r}", "see its last lines in the log"
        ) from error
    finally:
        theirs.close()
    return process, ours


def remove_socket() -> None:
    """Remove the folder of the socket at which the forkserver listens: nobody else does where a launcher ends at once.

    No rank can be started afterwards.
    """
    shutil.rmtree(util.get_temp_dir(), ignore_errors=True)


class _SigintIgnored:
    """What starts meanwhile ignores Ctrl-C, which reaches all processes of a terminal: only the launcher acts on it."""

    def __enter__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._former = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._former)
