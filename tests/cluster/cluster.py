"""A cluster for the tests: `python cluster.py up|down|kubeconfig`.

    KUBECONFIG or ZEROTUNE_KUBECONFIG named    that cluster, which is left as it is
    `docker info` answers and `kind` is there  a kind cluster named zerotune
    else                                       the test bed of bed.py (Linux, root)

`up` prints the kubeconfig's path on its last line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import components
from bed import Bed

KIND_NAME = "zerotune"


def up() -> Path:
    """Bring up the cluster that this machine can have; returns its kubeconfig. Safe to repeat."""
    if named := _named():
        return named
    if _has_kind():
        return _kind_up()
    return Bed().up()


def down() -> None:
    """Take down what `up` started; a cluster that was named stays."""
    if _named():
        return
    if _has_kind():
        subprocess.run(["kind", "delete", "cluster", "--name", KIND_NAME], check=True)
        return
    Bed().down()


def _named() -> Path | None:
    path = os.environ.get("ZEROTUNE_KUBECONFIG") or os.environ.get("KUBECONFIG")
    return Path(path) if path else None


def _has_kind() -> bool:
    if not shutil.which("kind") or not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _kind_up() -> Path:
    kubeconfig = components.cache_folder() / "kind.kubeconfig"
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    existing = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True).stdout.split()
    if KIND_NAME not in existing:
        subprocess.run(["kind", "create", "cluster", "--name", KIND_NAME, "--wait", "120s"], check=True)
    command = ["kind", "export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig", kubeconfig]
    subprocess.run(command, check=True)
    return kubeconfig


def main() -> None:
    """Carry out the one argument."""
    match sys.argv[1:]:
        case ["up"]:
            print(up())
        case ["down"]:
            down()
        case _:
            sys.exit(f"usage: {sys.argv[0]} up|down")


if __name__ == "__main__":
    main()
