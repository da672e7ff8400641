"""What `make images` builds, as the layers of the images have it: what is in them, and how large they are."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from zerotune_devtools.checkout import cache_folder
from zerotune_devtools.images import layout

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
FOLDER = cache_folder() / "images" / "layout"
PACKAGES = "opt/zerotune/lib/python3.11/site-packages/"
OPERATOR_BYTES = 250_000_000
CODE_BYTES = 6_000_000


@dataclass(frozen=True)
class Image:
    """An image of the layout that the test bed takes its images from."""

    name: str

    @cached_property
    def manifest(self) -> dict[str, Any]:
        digest = layout.images(FOLDER)[f"zerotune.dev/{self.name}:0.1.0"]["digest"]
        return _json(digest)

    @cached_property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = _json(self.manifest["config"]["digest"])["config"]
        return found

    @cached_property
    def layers(self) -> list[dict[str, int]]:
        """The files of each layer, with their size in bytes."""
        return [dict(_files(layer["digest"])) for layer in self.manifest["layers"]]

    @property
    def packages(self) -> set[str]:
        """What is in site-packages."""
        paths = [path for layer in self.layers for path in layer if path.startswith(PACKAGES)]
        return {path.removeprefix(PACKAGES).partition("/")[0] for path in paths}


def _json(digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(layout.blob_path(FOLDER, digest).read_text())
    return found


def _files(digest: str) -> Iterator[tuple[str, int]]:
    with tarfile.open(layout.blob_path(FOLDER, digest)) as layer:
        yield from ((each.name, each.size) for each in layer if each.isfile())


@pytest.fixture(scope="module", params=["operator", "trainer"])
def image(request: pytest.FixtureRequest) -> Image:
    return Image(request.param)


def test_an_image_runs_as_nobody_and_says_what_it_is(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert image.config["Entrypoint"][:2] == ["tini", "--"]
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): value for name, value in image.config["Labels"].items()}
    assert labels.items() >= {"title": f"zerotune {image.name}", "version": "0.1.0", "licenses": "Apache-2.0"}.items()
    assert labels["revision"]


def test_our_code_is_in_the_last_layer_and_nothing_else_is(image: Image) -> None:
    *others, last = image.layers
    assert sum(last.values()) < CODE_BYTES
    assert {path.removeprefix(PACKAGES)[:9] for path in last if path.startswith(PACKAGES)} == {"zerotune_"}
    assert not [path for layer in others for path in layer if path.startswith(f"{PACKAGES}zerotune_")]


def test_the_operator_is_small_and_knows_no_torch() -> None:
    operator = Image("operator")
    assert "kopf" in operator.packages
    assert not operator.packages & {"torch", "deepspeed", "transformers", "pip", "setuptools"}
    assert sum(sum(layer.values()) for layer in operator.layers) <= OPERATOR_BYTES


def test_the_ops_of_deepspeed_are_built() -> None:
    paths = [path for layer in Image("trainer").layers for path in layer if path.startswith(f"{PACKAGES}deepspeed/ops")]
    built = {Path(path).name.partition(".")[0] for path in paths if path.endswith(".so")}
    assert built == {"cpu_adam_op", "async_io_op", "pin_memory_op"}
