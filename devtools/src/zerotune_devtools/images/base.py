"""The base image, made of Debian's packages where no registry can be reached."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

NAME = "docker.io/library/debian:bookworm-slim"
_MIRROR = "http://deb.debian.org/debian"
_SOURCES = f"""\
deb {_MIRROR} bookworm main
deb {_MIRROR} bookworm-updates main
deb {_MIRROR}-security bookworm-security main
"""
# What Debian's own slim image leaves out too.
_EMPTIED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)


def write_context(folder: Path) -> None:
    """Fill a folder with what the base image is built from. About half a minute.

    Raises:
        subprocess.CalledProcessError: debootstrap failed; what it printed is in the message's output.
    """
    root = folder / "root"
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root, _MIRROR], check=True, capture_output=True)
    for name in _EMPTIED:
        shutil.rmtree(root / name)
        (root / name).mkdir()
    (root / "etc/apt/sources.list").write_text(_SOURCES)
    # The machine that builds has its own.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY root /\nCMD ["bash"]\n')
