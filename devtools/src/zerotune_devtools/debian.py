"""Debian packages that the test bed and the images are made with: installed where that is possible, else named."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def require(packages: dict[str, str]) -> None:
    """See to it that programs are there; `packages` maps each, by name or absolute path, to its Debian package.

    Raises:
        RuntimeError: programs are missing and apt-get or root is too; the message names the packages.
        subprocess.CalledProcessError: apt-get could not install them; what it printed is on stderr.
    """
    missing = sorted({package for program, package in packages.items() if not _is_there(program)})
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise RuntimeError(f"these packages are missing: {names}; as root: apt-get install {names}")
    print(f"installing Debian packages: {names}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", *missing]):
        subprocess.run(["apt-get", *command], env=environment, stdout=subprocess.DEVNULL, check=True)


def _is_there(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is not None
