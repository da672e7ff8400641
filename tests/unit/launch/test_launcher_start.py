"""The command starts the ranks' imports before it has made its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def test_what_the_command_imports_first_is_of_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import zerotune_trainer.launch; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    # `__mp_main__` is multiprocessing's other name for `__main__`.
    assert found.split() == ["__mp_main__", "zerotune_trainer"]


@pytest.mark.parametrize("length", [20, 98])
def test_ranks_start_whatever_the_length_of_the_temporary_folder(length: int) -> None:
    """The sockets of the ranks' parent have paths of 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder = folder.rename(f"{folder}{'t' * (length - len(str(folder)))}")
    code = (
        "from zerotune_trainer.launching.forkserver import *; from multiprocessing import util; "
        "start_imports([], Compute('cpu', 1)); print(util.get_temp_dir()); remove_socket()"
    )
    try:
        environment = os.environ | {"TMPDIR": str(folder)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        place = Path(done.stdout.strip())
        assert (place.parent == folder) == (length < 76)
        assert not place.exists()
    finally:
        folder.rmdir()
