"""buildah as `make images` uses it where no docker daemon answers (root). All that it keeps lies below one folder.

FOLDER/storage   layers and images; what makes the next build short
FOLDER/layout    the images as one OCI layout; where the test bed takes them from
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from zerotune_devtools import debian
from zerotune_devtools.images import base, layout


class Buildah:
    """Builds with buildah, in a storage of its own below `folder`."""

    def __init__(self, folder: Path) -> None:
        """Raises RuntimeError where this is not root, or buildah is missing and cannot be installed."""
        if os.geteuid() != 0:
            raise RuntimeError("no docker daemon answers, and buildah needs root here: start docker, or run as root")
        debian.require({"buildah": "buildah", "debootstrap": "debootstrap"})
        self._folder = folder
        for name in ("storage", "run", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def build(self, dockerfile: Path, reference: str, arguments: list[str]) -> None:
        """Build the image and put it into the layout, unless that has it: to compress its layers takes long."""
        self._ensure_base()
        target = self._folder / "layout"
        with tempfile.TemporaryDirectory(dir=self._folder / "tmp") as folder:
            image = Path(folder, "id")
            named = ["--tag", reference, "--iidfile", str(image)]
            self._run("bud", "--layers", "--isolation", "chroot", "--file", dockerfile, *named, *arguments, ".")
            if layout.has(target, reference, config=image.read_text().strip()):
                return
        self._run("push", "--quiet", reference, f"oci:{target}:{reference}")
        layout.prune(target)

    def _ensure_base(self) -> None:
        """The base image: what is there, else what a registry has, else made of Debian's packages under that name."""
        if self._succeeds("inspect", "--type", "image", base.NAME) or self._succeeds("pull", "--quiet", base.NAME):
            return
        print(f"no registry answers: making {base.NAME} of Debian's packages ...", flush=True)
        with tempfile.TemporaryDirectory(dir=self._folder / "tmp") as context:
            base.write_context(Path(context))
            self._run("bud", "--quiet", "--tag", base.NAME, context)

    def _succeeds(self, *arguments: str) -> bool:
        command = self._command(*arguments)
        return subprocess.run(command, capture_output=True, env=self._environment(), check=False).returncode == 0

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run(self._command(*arguments), env=self._environment(), check=True)

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
