"""Gives the test bed's containerd the images that `make images` built, of which only the layers that it lacks."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from zerotune_devtools.images import layout

_PATIENCE_SECONDS = 10


class Containerd:
    """The images of a containerd, by its command line."""

    def __init__(self, socket: Path) -> None:
        self._ctr: list[str | Path] = ["ctr", "--address", socket, "--namespace", "k8s.io"]

    def load(self, folder: Path, reference: str) -> bool:
        """Take an image from an OCI layout; False if this very image was there already.

        Raises:
            KeyError: the layout has no image of that name.
            subprocess.CalledProcessError: containerd rejected it; what it printed is on stderr.
        """
        descriptor = layout.images(folder)[reference]
        known = self.images().get(reference)
        if known == descriptor["digest"] and self._is_unpacked(reference):
            return False
        with self._kept(reference) if known else nullcontext():
            present = set(self._lines("content", "list", "--quiet"))
            missing = [digest for digest in layout.blobs(folder, descriptor) if digest not in present]
            self._import(lambda stream: _write_archive(stream, folder, reference, descriptor, missing))
        return True

    def answers(self) -> bool:
        """Whether containerd is there and not stuck."""
        try:
            command = [*self._ctr, "version"]
            return subprocess.run(command, capture_output=True, timeout=_PATIENCE_SECONDS, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def images(self) -> dict[str, str]:
        """The digest of each image, by reference."""
        rows = [line.split() for line in self._lines("images", "list")[1:]]
        return {row[0]: row[2] for row in rows}

    def _is_unpacked(self, reference: str) -> bool:
        """Whether containers can be made of it: an import that broke off leaves the name of an image that is not."""
        *_, row = self._lines("images", "check", f"name=={reference}")
        return row.split()[-1] == "true"

    @contextmanager
    def _kept(self, reference: str) -> Iterator[None]:
        """Keep what an image has: containerd removes what has lost its name, and that while the next is being unpacked
        upon the same layers.
        """
        before = f"{reference}.before"
        self._lines("images", "tag", "--force", reference, before)
        try:
            yield
        finally:
            self._lines("images", "rm", before)

    def _import(self, write: Callable[[IO[bytes]], None]) -> None:
        command = [*self._ctr, "images", "import", "-"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stdin
            write(process.stdin)
            process.stdin.close()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)

    def _lines(self, *arguments: str) -> list[str]:
        command = [*self._ctr, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def _write_archive(
    stream: IO[bytes], folder: Path, reference: str, descriptor: dict[str, Any], digests: list[str]
) -> None:
    """An OCI archive of one image that holds some of its blobs only; containerd has the others."""
    named = descriptor | {"annotations": {"io.containerd.image.name": reference}}
    index = {"schemaVersion": 2, "manifests": [named]}
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps(index).encode())
        for digest in digests:
            path = layout.blob_path(folder, digest)
            tar.add(path, arcname=str(path.relative_to(folder)))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
