"""A cluster for the tests: `python cluster.py up|load|down`.

    ZEROTUNE_KUBECONFIG names a kubeconfig     that cluster, which must be one for tests; it is not taken down
    `docker info` answers and `kind` is there  a kind cluster named zerotune
    else                                       the test bed of bed.py (Linux, root)

KUBECONFIG is not asked: in many a shell it names a cluster that people work with.

`up` prints a line that exports KUBECONFIG and a PATH with kubectl and helm; `load` gives it what `make images` built.
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
    """Bring up the cluster that this machine can have; returns its kubeconfig. Safe to repeat.

    Raises:
        RuntimeError: this machine can have none, or programs are missing; the message says what would help.
    """
    if own := named():
        components.client_programs()
        return own
    if _has_kind():
        components.client_programs()
        return _kind_up()
    if sys.platform != "linux" or os.geteuid() != 0:
        raise RuntimeError(
            "the test bed needs Linux and root: run as root, or start Docker and install kind, "
            "or let ZEROTUNE_KUBECONFIG name a cluster for tests"
        )
    return Bed().up()


def load() -> list[str]:
    """Give the cluster the images that `make images` built; returns the names of those that were sent.

    Raises:
        RuntimeError: the cluster was named: its images come from its registry.
    """
    if own := named():
        raise RuntimeError(
            f"ZEROTUNE_KUBECONFIG is {own}, a cluster of your own: push the images to a registry that it pulls from, "
            "with `make push REGISTRY=registry.example.com/team`"
        )
    if _has_kind():
        return _kind_load()
    return Bed().load(components.cache_folder() / "images" / "layout")


def up_with_images() -> Path:
    """Like `up`, with what `make images` built last on the nodes; a cluster that was named must have it."""
    kubeconfig = up()
    if named() is None:
        load()
    return kubeconfig


def down() -> None:
    """Take down what `up` started; a cluster that was named stays."""
    if named():
        return
    if _has_kind():
        subprocess.run(["kind", "delete", "cluster", "--name", KIND_NAME], check=True)
        return
    Bed().down()


def named() -> Path | None:
    """The cluster that the environment names, which is not ours to load images into or to take down."""
    path = os.environ.get("ZEROTUNE_KUBECONFIG")
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


def _kind_load() -> list[str]:
    listed = ["docker", "images", "--filter", "reference=zerotune.dev/*", "--format", "{{.Repository}}:{{.Tag}}"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["kind", "load", "docker-image", "--name", KIND_NAME, *names], check=True)
    return names


def main() -> None:
    """Carry out the one argument."""
    try:
        _carry_out(sys.argv[1:])
    except RuntimeError as error:
        sys.exit(f"error: {error}")


def _carry_out(arguments: list[str]) -> None:
    match arguments:
        case ["up"]:
            print(f'export KUBECONFIG={up()} PATH={components.cache_folder()}/bin:"$PATH"')
        case ["load"]:
            print(*load(), sep="\n")
        case ["down"]:
            down()
        case _:
            sys.exit(f"usage: {sys.argv[0]} up|load|down")


if __name__ == "__main__":
    main()
