"""libaio and its header, of Debian's packages, unpacked where nothing is installed: DeepSpeed's operator async_io, by
which `zerotune` keeps parameters on a disk (`zero.offloadParam: nvme`), is compiled with them."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from zerotune_devtools.checkout import cache_folder

_PACKAGES = ("libaio-dev", "libaio1")


def folder() -> Path:
    """Where they are unpacked."""
    return cache_folder() / "libaio" / "usr"


def compiler_variables() -> dict[str, str]:
    """Variables by which compilers find them, and what is compiled with them finds the library."""
    include, library = str(folder() / "include"), str(folder() / "lib" / "x86_64-linux-gnu")
    # DeepSpeed looks for the library with the first two; torch compiles and links with neither, but GCC reads the rest.
    paths = {"CPATH": include, "LIBRARY_PATH": library, "LD_RUN_PATH": library}
    return {"CFLAGS": f"-I{include}", "LDFLAGS": f"-L{library}", **paths}


def unpack() -> None:
    """Fetch the packages and unpack them, where they are not there.

    Raises:
        subprocess.CalledProcessError: apt-get does not find them.
    """
    if folder().is_dir():
        return
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        for package in _PACKAGES:
            subprocess.run(["apt-get", "download", "-qq", package], cwd=scratch, check=True)
        for file in Path(scratch).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, "root"], cwd=scratch, check=True)
        (Path(scratch) / "root").replace(folder().parent)
