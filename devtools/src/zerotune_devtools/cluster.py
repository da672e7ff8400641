"""A cluster for the tests: `zerotune-cluster up|load|down`.

    ZEROTUNE_KUBECONFIG names a kubeconfig     that cluster, which must be one for tests; it is not taken down
    `docker info` answers and `kind` is there  a kind cluster named zerotune
    else                                       the test bed of bed/ (Linux, root)

KUBECONFIG is not asked: in many a shell it names a cluster that people work with.

`up` prints a line that exports KUBECONFIG and a PATH with kubectl and helm; `load` gives it what `make images` built.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zerotune_devtools import kind
from zerotune_devtools.bed import components
from zerotune_devtools.bed.bed import Bed
from zerotune_devtools.checkout import cache_folder


def up() -> Path:
    """Bring up the cluster that this machine can have; returns its kubeconfig. Safe to repeat.

    Raises:
        RuntimeError: this machine can have none, or programs are missing; the message says what would help.
    """
    if own := named():
        components.client_programs()
        return own
    if kind.is_used():
        components.client_programs()
        return kind.up()
    if sys.platform != "linux" or os.geteuid() != 0:
        raise RuntimeError(
            "the test bed needs Linux and root: run as root, or start Docker and install kind, "
            "or let ZEROTUNE_KUBECONFIG name a cluster for tests"
        )
    return Bed().up()


def load() -> list[str]:
    """Give the cluster the images that `make images` built; returns the names of those that were sent.

    Raises:
        RuntimeError: there is no image, or the cluster was named: its images come from its registry.
    """
    if own := named():
        raise RuntimeError(
            f"ZEROTUNE_KUBECONFIG is {own}, a cluster of your own: push the images to a registry that it pulls from, "
            "with `make push REGISTRY=registry.example.com/team`"
        )
    if kind.is_used():
        return kind.load()
    return Bed().load(cache_folder() / "images" / "layout")


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
    if kind.is_used():
        kind.down()
    else:
        Bed().down()


def named() -> Path | None:
    """The cluster that the environment names, which is not ours to load images into or to take down."""
    path = os.environ.get("ZEROTUNE_KUBECONFIG")
    return Path(path) if path else None


def main() -> None:
    """Carry out the one argument."""
    try:
        _carry_out(sys.argv[1:])
    except RuntimeError as error:
        sys.exit(f"error: {error}")


def _carry_out(arguments: list[str]) -> None:
    match arguments:
        case ["up"]:
            print(f'export KUBECONFIG={up()} PATH={cache_folder()}/bin:"$PATH"')
        case ["load"]:
            print(*load(), sep="\n")
        case ["down"]:
            down()
        case _:
            sys.exit("usage: zerotune-cluster up|load|down")
