"""The cluster for tests where Docker runs and kind is there: a kind cluster with a name of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from zerotune_devtools.checkout import cache_folder
from zerotune_devtools.images import NONE_BUILT, REGISTRY

NAME = "zerotune"


def is_used() -> bool:
    """Whether both programs are there and Docker's daemon answers."""
    if not shutil.which("kind") or not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def up() -> Path:
    """Create the cluster unless it is there; returns its kubeconfig, a file of its own."""
    kubeconfig = cache_folder() / "kind.kubeconfig"
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    existing = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True).stdout.split()
    if NAME not in existing:
        subprocess.run(["kind", "create", "cluster", "--name", NAME, "--wait", "120s"], check=True)
    command = ["kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", str(kubeconfig)]
    subprocess.run(command, check=True)
    return kubeconfig


def load() -> list[str]:
    """Give every node the images that Docker has built; returns their names.

    Raises:
        RuntimeError: there is none.
    """
    listed = ["docker", "images", "--filter", f"reference={REGISTRY}/*", "--format", "{{.Repository}}:{{.Tag}}"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    if not names:
        raise RuntimeError(NONE_BUILT)
    subprocess.run(["kind", "load", "docker-image", "--name", NAME, *names], check=True)
    return names


def down() -> None:
    """Delete the cluster."""
    subprocess.run(["kind", "delete", "cluster", "--name", NAME], check=True)
