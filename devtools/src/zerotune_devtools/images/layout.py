"""An OCI image layout on disk: which image has which blobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REFERENCE = "org.opencontainers.image.ref.name"
INPUTS = "dev.zerotune.inputs"
"""Annotation: the digest of what an image was built from, see `inputs`."""


def images(layout: Path) -> dict[str, dict[str, Any]]:
    """The manifest descriptor of each image, by reference; none where there is no layout yet."""
    if not (layout / "index.json").is_file():
        return {}
    named = [manifest for manifest in _index(layout)["manifests"] if REFERENCE in manifest.get("annotations", {})]
    return {manifest["annotations"][REFERENCE]: manifest for manifest in named}


def blobs(layout: Path, descriptor: dict[str, Any]) -> list[str]:
    """The digests that an image consists of: its manifest, its configuration, its layers."""
    manifest = json.loads(blob_path(layout, descriptor["digest"]).read_text())
    parts = [manifest["config"], *manifest["layers"]]
    return [descriptor["digest"], *(part["digest"] for part in parts)]


def has(layout: Path, reference: str, *, config: str) -> bool:
    """Whether an image is there, whole, and with the configuration of that digest, which stands for all of it."""
    parts = _whole(layout, reference)
    return bool(parts) and parts[1] == config


def was_built_from(layout: Path, reference: str, inputs: str) -> bool:
    """Whether an image is there, whole, and was built from what has that digest."""
    return bool(_whole(layout, reference)) and images(layout)[reference]["annotations"].get(INPUTS) == inputs


def note_inputs(layout: Path, reference: str, inputs: str) -> None:
    """Note what an image was built from."""
    noted = images(layout)
    noted[reference]["annotations"][INPUTS] = inputs
    _write(layout, noted)


def blob_path(layout: Path, digest: str) -> Path:
    """Where a blob lies."""
    return layout / "blobs" / digest.replace(":", "/")


def prune(layout: Path) -> None:
    """Remove the images that lost their name to a newer one, and the blobs that no image has any more."""
    kept = images(layout)
    _write(layout, kept)
    used = {digest for descriptor in kept.values() for digest in blobs(layout, descriptor)}
    for path in (layout / "blobs" / "sha256").iterdir():
        if f"sha256:{path.name}" not in used:
            path.unlink()


def _whole(layout: Path, reference: str) -> list[str]:
    """The digests that an image consists of if all of them are there, else none."""
    descriptor = images(layout).get(reference)
    if descriptor is None or not blob_path(layout, descriptor["digest"]).is_file():
        return []
    parts = blobs(layout, descriptor)
    return parts if all(blob_path(layout, digest).is_file() for digest in parts) else []


def _write(layout: Path, kept: dict[str, dict[str, Any]]) -> None:
    draft = layout / "index.json.draft"
    draft.write_text(json.dumps(_index(layout) | {"manifests": list(kept.values())}))
    draft.replace(layout / "index.json")


def _index(layout: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((layout / "index.json").read_text())
    return index
