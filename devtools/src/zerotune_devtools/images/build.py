"""Builds the images: `make images`, `make images TORCH_BACKEND=cuda`.

docker builds where its daemon answers, else buildah; the Dockerfiles are the same, and the images are built at the same
time. The package index and certificates that this machine uses are given to the build as secrets, and so are in no
image.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from zerotune_devtools.checkout import ROOT, cache_folder
from zerotune_devtools.images import REGISTRY, relay
from zerotune_devtools.images.buildah import Buildah

_INDEX_VARIABLES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT"),
)
ON_TRAINER = "sagemaker"
"""The image that is built on the trainer's, after it."""
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")


class Builder(Protocol):
    """What builds an image of a Dockerfile."""

    def build(self, dockerfile: Path, reference: str, arguments: Sequence[str], secrets: Sequence[str]) -> None:
        """Build in the current folder; `arguments` and `secrets` are options that docker and buildah share, of which
        the image depends on the arguments alone.
        """


class Docker:
    """docker with BuildKit, which secrets need."""

    def build(self, dockerfile: Path, reference: str, arguments: Sequence[str], secrets: Sequence[str]) -> None:
        """Build the image into docker's own store."""
        command = ["docker", "build", "--file", str(dockerfile), "--tag", reference, *arguments, *secrets, "."]
        relay.run(reference, command, os.environ | {"DOCKER_BUILDKIT": "1"})

    @staticmethod
    def is_used() -> bool:
        """Whether there is a daemon to build with. Not for root without kind, who gets the test bed: that takes its
        images from buildah.
        """
        if not shutil.which("docker") or (os.geteuid() == 0 and not shutil.which("kind")):
            return False
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def main() -> None:
    """Build the images named in the arguments, all where none is; prints each reference and the seconds it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="operator|trainer|sagemaker", default=["operator", "trainer"])
    parser.add_argument(
        "--torch-backend",
        choices=["cpu", "cuda"],
        default="cpu",
        help="see images/trainer/Dockerfile; default: %(default)s",
    )
    parser.add_argument(
        "--trackers", action="store_true", help="put TensorBoard, MLflow and Weights & Biases into the trainer's image"
    )
    parser.add_argument("--vllm", action="store_true", help="put vLLM into the trainer's image, which is for GPUs then")
    parser.add_argument(
        "--base",
        metavar="IMAGE",
        help="a Debian 12 to build on; NAME@sha256:... pins it",
    )
    options = parser.parse_args()
    if options.vllm and options.torch_backend != "cuda":
        parser.error("vLLM is for GPUs: make images TORCH_BACKEND=cuda VLLM=1")
    os.chdir(ROOT)
    builder: Builder = Docker() if Docker.is_used() else Buildah(cache_folder() / "images")
    with ThreadPoolExecutor() as pool:
        running = {name: pool.submit(_build, builder, name, options) for name in options.names if name != ON_TRAINER}
    failed = [f"{name}: {error}" for name, ended in running.items() if (error := ended.exception())]
    if failed:
        sys.exit("\n".join(f"error: {each}" for each in failed))
    if ON_TRAINER in options.names:
        _build(builder, ON_TRAINER, options)


def _build(builder: Builder, name: str, options: argparse.Namespace) -> None:
    start = time.monotonic()
    reference = f"{REGISTRY}/{name}:{_tag(name, options)}"
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--build-arg", f"VERSION={_version()}", "--build-arg", f"REVISION={_revision()}"]
        if name == "trainer":
            arguments += ["--build-arg", f"TORCH_BACKEND={options.torch_backend}"]
            arguments += ["--build-arg", "TRACKERS=yes"] if options.trackers else []
            arguments += ["--build-arg", "VLLM=yes"] if options.vllm else []
        if name == ON_TRAINER:
            trainer = f"{REGISTRY}/trainer:{_tag('trainer', options)}"
            arguments += ["--build-arg", f"TRAINER={trainer}"]
        if options.base:
            arguments += ["--build-arg", f"BASE={options.base}"]
        builder.build(Path("images", name, "Dockerfile"), reference, arguments, _secrets(Path(folder)))
    print(f"{reference} ({time.monotonic() - start:.0f} s)", file=sys.stderr)


def _tag(name: str, options: argparse.Namespace) -> str:
    """One of its own for GPUs, trackers and vLLM: a node that has another trainer of a tag would not pull this one."""
    if name not in ("trainer", ON_TRAINER):
        return _version()
    parts = {
        "-cuda": options.torch_backend == "cuda",
        "-trackers": options.trackers,
        "-vllm": options.vllm,
    }
    return _version() + "".join(part for part, is_in in parts.items() if is_in)


def _secrets(folder: Path) -> list[str]:
    """The arguments that mount this machine's package index and certificates, as far as it has any of its own."""
    index = folder / "package-index"
    index.write_text("".join(f"{name}='{os.environ[name]}'\n" for name in _INDEX_VARIABLES if name in os.environ))
    arguments = ["--secret", f"id=package-index,src={index}"]
    certificates = next((os.environ[name] for name in _CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    return arguments + (["--secret", f"id=certificates,src={certificates}"] if certificates else [])


def _version() -> str:
    project = tomllib.loads((ROOT / "operator" / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def _revision() -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
