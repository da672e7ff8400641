"""An image layout has an image only where all of it is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from zerotune_devtools.images import layout

NAME = "zerotune.dev/operator:0.1.0"


def test_a_whole_image_is_there(tmp_path: Path) -> None:
    config, _ = _write_image(tmp_path)
    assert layout.has(tmp_path, NAME, config=config)


def test_another_image_of_the_name_is_not(tmp_path: Path) -> None:
    config, layer = _write_image(tmp_path)
    assert not layout.has(tmp_path, NAME, config=layer)
    assert not layout.has(tmp_path, "zerotune.dev/trainer:0.1.0", config=config)
    assert not layout.has(tmp_path / "nowhere", NAME, config=config)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_an_image_that_lacks_a_part_is_not(tmp_path: Path, part: int) -> None:
    config, _ = _write_image(tmp_path)
    digest = layout.blobs(tmp_path, layout.images(tmp_path)[NAME])[part]
    layout.blob_path(tmp_path, digest).unlink()
    assert not layout.has(tmp_path, NAME, config=config)


def _write_image(folder: Path) -> tuple[str, str]:
    """Write an image of one layer; the digests of its configuration and its layer."""
    config, layer = _write_blob(folder, {"config": {}}), _write_blob(folder, {"layer": 1})
    manifest = _write_blob(folder, {"config": {"digest": config}, "layers": [{"digest": layer}]})
    index = {"manifests": [{"digest": manifest, "annotations": {layout.REFERENCE: NAME}}]}
    (folder / "index.json").write_text(json.dumps(index))
    return config, layer


def _write_blob(folder: Path, content: Mapping[str, object]) -> str:
    data = json.dumps(content).encode()
    digest = f"sha256:{sha256(data).hexdigest()}"
    path = layout.blob_path(folder, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest
