"""Pushes what `make images` built to a registry: `make push REGISTRY=...`, zerotune.dev/NAME:TAG to
REGISTRY/NAME:TAG.

docker pushes where it has built, else buildah. Who has to log in does so before: `docker login` or `buildah login`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol

from zerotune_devtools.checkout import cache_folder
from zerotune_devtools.images import NONE_BUILT, REGISTRY, layout
from zerotune_devtools.images.build import Docker
from zerotune_devtools.images.buildah import Buildah


class Pusher(Protocol):
    """What has the images."""

    def references(self) -> list[str]:
        """Every image that `make images` built."""

    def push(self, reference: str, target: str) -> None:
        """Push an image under another name."""


class FromDocker:
    """Pushes out of docker's own store."""

    def references(self) -> list[str]:
        """By the name of their registry."""
        command = ["docker", "images", "--filter", f"reference={REGISTRY}/*", "--format", "{{.Repository}}:{{.Tag}}"]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()

    def push(self, reference: str, target: str) -> None:
        """The new name stays in the store."""
        subprocess.run(["docker", "tag", reference, target], check=True)
        subprocess.run(["docker", "push", target], check=True)


class FromBuildah(Buildah):
    """Pushes out of the storage that was built into."""

    def references(self) -> list[str]:
        """Those that the test bed is given."""
        return [name for name in layout.images(self._folder / "layout") if name.startswith(f"{REGISTRY}/")]

    def push(self, reference: str, target: str) -> None:
        """As docker does."""
        self._run(reference, "push", reference, target)


def main() -> None:
    """Push all; prints each name that they have in the registry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("registry", metavar="REGISTRY", help="registry and path, as in registry.example.com/team")
    registry = parser.parse_args().registry
    pusher = make_pusher()
    for reference, target in targets(registry, pusher.references()).items():
        pusher.push(reference, target)
        sys.stdout.write(f"{target}\n")


def make_pusher() -> Pusher:
    """What has the images of this machine."""
    return FromDocker() if Docker.is_used() else FromBuildah(cache_folder() / "images")


def targets(registry: str, references: Sequence[str]) -> dict[str, str]:
    """The name of each image in a registry.

    Raises:
        SystemExit: there are no images.
    """
    if not references:
        sys.exit(f"error: {NONE_BUILT}")
    return {each: f"{registry.rstrip('/')}/{each.removeprefix(f'{REGISTRY}/')}" for each in references}


if __name__ == "__main__":
    main()
