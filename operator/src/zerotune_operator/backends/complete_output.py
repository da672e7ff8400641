"""Whether an output is complete, by its manifest, which is written last. Pure."""

from __future__ import annotations

from pydantic import ValidationError

from zerotune_operator.api.status import OutputSummary
from zerotune_trainer.manifest import Manifest


def own_manifest(content: bytes | None, uid: str, config_digest: str) -> Manifest | None:
    """The manifest of an output that the job `uid` made with a configuration; None where it is not complete.

    Args:
        content: Of its `manifest.json`; None: it has none.
        uid: Of the job.
        config_digest: Of the configuration.
    """
    if content is None:
        return None
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        return None  # One that cannot be read makes the folder incomplete.
    return manifest if (manifest.job.uid, manifest.config_digest) == (uid, config_digest) else None


def summary_of(uri: str, manifest: Manifest) -> OutputSummary:
    """The output at `uri`, as its manifest describes it."""
    return OutputSummary(
        uri=uri, step=manifest.step, files=len(manifest.files), bytes=sum(entry.size for entry in manifest.files)
    )
