"""What an attempt writes until it is complete: in a folder of its own, so that no two attempts mix their files.

An attempt that was cut off may still run, such as on a node that the cluster has lost sight of.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from zerotune_trainer.storage import Folder

_NAME = re.compile(r"^\.attempt-(?P<attempt>\d+)$")


def draft_folder(folder: Path, attempt: int) -> Path:
    """Where an attempt writes below a folder that all attempts share."""
    return folder / f".attempt-{attempt}"


def discard_drafts(folder: Path, attempt: int) -> list[str]:
    """Remove the drafts of this attempt and of earlier ones, which are over; returns what lay in them.

    Call it once the folder is this attempt's own: an earlier one that still runs can complete nothing then.
    """
    removed = []
    for drafts in sorted(folder.glob(".attempt-*")):
        match = _NAME.match(drafts.name)
        if match and int(match["attempt"]) <= attempt:
            removed += sorted(child.name for child in drafts.iterdir())
            shutil.rmtree(drafts)
    return removed


def discard_other_staging(folder: Folder) -> None:
    """Remove what other attempts have staged on this host for a folder in a store: nobody uses it any more."""
    if folder.is_staged:
        staging = folder.local
        for other in staging.parents[2].glob(f"attempt-*/staging/{staging.name}"):
            if other != staging:
                shutil.rmtree(other, ignore_errors=True)


def staging_folder(cache: Path, attempt: int) -> Path:
    """Where an attempt stages below a cache that attempts, and jobs, share."""
    return cache / f"attempt-{attempt}"
