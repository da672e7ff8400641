"""The command starts the ranks' imports before it has made its own."""

from __future__ import annotations

import subprocess
import sys


def test_what_the_command_imports_first_is_of_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import zerotune_trainer.launch; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    # `__mp_main__` is multiprocessing's other name for `__main__`.
    assert found.split() == ["__mp_main__", "zerotune_trainer"]
