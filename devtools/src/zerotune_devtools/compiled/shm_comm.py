"""DeepSpeed's operator that sums over the ranks of a host by shared memory, which the baselines of benchmarks use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from zerotune_devtools.compiled import kept

_NAMES = ["deepspeed_shm_comm"]
_COMPILE = "from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder as Builder; Builder().load()"


def keep_shm_comm() -> None:
    """Compile the operator unless it is kept, in minutes.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    kept.keep(_NAMES, _compile_into)


def load_shm_comm() -> None:
    """Give the operator to this process."""
    kept.load(_NAMES)


def _compile_into(folder: Path) -> None:
    variables = os.environ | {"TORCH_EXTENSIONS_DIR": str(folder), "DS_ACCELERATOR": "cpu"}
    # What it is compiled with, such as ninja, is in the environment's folder of programs.
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run([sys.executable, "-c", _COMPILE], check=True, env=variables)
