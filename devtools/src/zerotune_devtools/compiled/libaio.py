"""libaio and its header, of Debian's packages, unpacked where nothing is installed: DeepSpeed's operator async_io, by
which `zerotune` keeps parameters on a disk (`zero.offloadParam: nvme`), is compiled with them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from zerotune_devtools.checkout import cache_folder, extensions_folder

_PACKAGES = ("libaio-dev", "libaio1")
_COMPILE = "from zerotune_trainer.async_io import load_async_io as load; load()"


def folder() -> Path:
    """Where they are unpacked."""
    return cache_folder() / "libaio" / "usr"


def compiler_variables() -> dict[str, str]:
    """Variables by which compilers find them, what is compiled with them finds the library, and torch keeps it."""
    include, library = str(folder() / "include"), str(folder() / "lib" / "x86_64-linux-gnu")
    # DeepSpeed looks for the library with the first two; torch compiles and links with neither, but GCC reads the rest.
    paths = {"CPATH": include, "LIBRARY_PATH": library, "LD_RUN_PATH": library}
    kept = {"TORCH_EXTENSIONS_DIR": str(extensions_folder())}
    return {"CFLAGS": f"-I{include}", "LDFLAGS": f"-L{library}", **paths, **kept}


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


def compile_async_io(folder: Path | None = None) -> None:
    """Have torch compile DeepSpeed's operator async_io, in minutes, unless it has.

    Args:
        folder: Where torch keeps it. Default: where ranks look for it that have `compiler_variables()`.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    unpack()
    variables = os.environ | compiler_variables()
    if folder is not None:
        variables["TORCH_EXTENSIONS_DIR"] = str(folder)
    subprocess.run([sys.executable, "-c", _COMPILE], check=True, env=variables)
