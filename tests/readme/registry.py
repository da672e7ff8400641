"""A registry on this machine, without TLS, that the test bed's node pulls from."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zerotune_devtools.bed import components, settings
from zerotune_devtools.bed.bed import Bed


@contextmanager
def serve(bed: Bed) -> Iterator[tuple[str, dict[str, str]]]:
    """A place for images that nobody has used, and the variables with which buildah pushes there without TLS.

    Image and place are forgotten at the end: they would hold on to content that nobody needs.
    """
    place = f"{settings.REGISTRY}/{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        trusted = Path(folder, "registries.conf")
        trusted.write_text(f'[[registry]]\nlocation = "{settings.REGISTRY}"\ninsecure = true\n')
        command = [components.build(("crane",)) / "crane", "registry", "serve", "--address", settings.REGISTRY]
        with subprocess.Popen([*command, "--disk", folder], stderr=subprocess.DEVNULL) as process:
            try:
                _wait_for(process)
                yield place, {"CONTAINERS_REGISTRIES_CONF": str(trusted)}
            finally:
                process.terminate()
                _forget(bed, place)


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    host, port = settings.REGISTRY.split(":")
    while True:
        with socket.socket() as connection:
            if connection.connect_ex((host, int(port))) == 0:
                return
        assert process.poll() is None, f"no registry can be served at {settings.REGISTRY}"
        time.sleep(0.1)


def _forget(bed: Bed, place: str) -> None:
    images = ["ctr", "--address", bed.folders.socket, "--namespace", "k8s.io", "images"]
    listed = subprocess.run([*images, "list", "--quiet"], check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in listed.split():
        if name.startswith(place):
            subprocess.run([*images, "remove", name], check=True, stdout=subprocess.DEVNULL)
