"""buildah as `make images` uses it where no docker daemon answers (root). All that it keeps lies below one folder.

FOLDER/storage   layers and images; what makes the next build short
FOLDER/layout    the images as one OCI layout; where the test bed takes them from
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from zerotune_devtools import debian
from zerotune_devtools.checkout import ROOT
from zerotune_devtools.images import base, inputs, layout, relay


class Buildah:
    """Builds with buildah, in a storage of its own below `folder`; several images at once."""

    def __init__(self, folder: Path) -> None:
        """Raises RuntimeError where this is not root, or buildah is missing and cannot be installed."""
        if os.geteuid() != 0:
            raise RuntimeError("no docker daemon answers, and buildah needs root here: start docker, or run as root")
        debian.require({"buildah": "buildah", "debootstrap": "debootstrap"})
        self._folder = folder
        # The base image is made once, and the layout has one index.
        self._alone = threading.Lock()
        for name in ("storage", "run", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        # A second `make images` would remove blobs of the layout that this one has just written: it waits.
        self._lock = (folder / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._remove_containers()

    def _remove_containers(self) -> None:
        """Remove what builds that were killed have left mounted, gigabytes each: no other one runs."""
        subprocess.run(self._command("rm", "--all"), check=True, capture_output=True, env=self._environment())

    def build(self, dockerfile: Path, reference: str, arguments: Sequence[str], secrets: Sequence[str]) -> None:
        """Build the image into the layout, unless it is there and was built from the same."""
        target, built_from = self._folder / "layout", inputs.digest(ROOT, dockerfile, arguments)
        if layout.was_built_from(target, reference, built_from) and self._has(reference):
            return
        if not any(each.startswith("BASE=") for each in arguments):
            with self._alone:
                self._ensure_base()
        config = self._bud(dockerfile, reference, [*arguments, *secrets])
        with self._alone:
            # To compress its layers takes long: only where the layout does not have it.
            if not layout.has(target, reference, config=config):
                self._run(reference, "push", "--quiet", reference, f"oci:{target}:{reference}")
                layout.prune(target)
            layout.note_inputs(target, reference, built_from)

    def _bud(self, dockerfile: Path, reference: str, arguments: Sequence[str]) -> str:
        """Build the image into the storage; the digest of its configuration."""
        with tempfile.TemporaryDirectory(dir=self._folder / "tmp") as folder:
            image = Path(folder, "id")
            named = ["--tag", reference, "--iidfile", str(image)]
            isolated = ["--layers", "--isolation", "chroot", "--file", str(dockerfile)]
            self._run(reference, "bud", *isolated, *named, *arguments, ".")
            return image.read_text().strip()

    def _has(self, reference: str) -> bool:
        """Whether the storage has it, which is pushed from."""
        return self._succeeds("inspect", "--type", "image", reference)

    def _ensure_base(self) -> None:
        """The base image: what is there, else what a registry has, else made of Debian's packages under that name."""
        if self._has(base.NAME) or self._succeeds("pull", "--quiet", base.NAME):
            return
        print(f"no registry answers: making {base.NAME} of Debian's packages ...", flush=True)
        with tempfile.TemporaryDirectory(dir=self._folder / "tmp") as context:
            base.write_context(Path(context))
            self._run(base.NAME, "bud", "--quiet", "--tag", base.NAME, context)

    def _succeeds(self, *arguments: str) -> bool:
        command = self._command(*arguments)
        return subprocess.run(command, capture_output=True, env=self._environment(), check=False).returncode == 0

    def _run(self, label: str, *arguments: str | Path) -> None:
        relay.run(label, self._command(*arguments), self._environment())

    def _command(self, *arguments: str | Path) -> list[str | Path]:
        storage: list[str | Path] = [
            "--root",
            self._folder / "storage",
            "--runroot",
            self._folder / "run",
            "--storage-driver",
            "overlay",
        ]
        return ["buildah", *storage, *arguments]

    def _environment(self) -> dict[str, str]:
        return os.environ | {"TMPDIR": str(self._folder / "tmp")}
