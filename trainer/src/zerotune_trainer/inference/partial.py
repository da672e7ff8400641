"""What has been generated of a shard that is not whole yet: kept every half minute and on a stop, for the next attempt.

Each commit is a file of its own, `work/part-000007.partial-0001.json`, so that a large shard is not written again and
again. It holds the texts of whole batches: what is left of the shard then falls into the batches it would have been in.
The output file is made of all texts at once, in the order of the records, whichever attempt generated them. When its
marker is there, these files go.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.inference.engine import BatchFigures
from zerotune_trainer.inference.plan import WorkPlan
from zerotune_trainer.inference.rows import Cell
from zerotune_trainer.inference.sealed import seal, unseal
from zerotune_trainer.storage import Folder

COMMIT_SECONDS = 30.0
"""What a killed rank loses at most, besides the batch in hand."""

Texts = dict[int, list[str]]
"""What was generated, by record number: a text for each sequence; or scores, or a vector, as JSON."""


class _Commit(Settings):
    plan: str
    shard: int
    texts: Texts
    batches: list[BatchFigures]

    def encoded(self) -> bytes:
        return seal(self.model_dump_json(by_alias=True).encode())


@dataclass
class PartialShard:
    """The texts of a shard so far.

    Args:
        output: The output folder.
        plan: The job's plan.
        shard: The shard.
        write: Writes a file of the output folder, whole or not at all.
    """

    output: Folder
    plan: WorkPlan
    shard: int
    write: Callable[[str, bytes], object]
    texts: Texts = field(default_factory=dict)
    batches: list[BatchFigures] = field(default_factory=list)
    _committed: int = 0
    _new_texts: Texts = field(default_factory=dict)
    _new_batches: list[BatchFigures] = field(default_factory=list)
    _committed_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        for commit in read_commits(self.output, self.plan, self.shard):
            self.texts.update(commit.texts)
            self.batches += commit.batches
            self._committed += 1

    def add(self, texts: Texts, batch: BatchFigures) -> None:
        """Take in what a batch generated; commit it where the last commit was long ago."""
        self.texts.update(texts)
        self.batches.append(batch)
        self._new_texts.update(texts)
        self._new_batches.append(batch)
        if time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self.commit()

    def take_over(self, cells: dict[int, Cell | None], batches: Sequence[BatchFigures]) -> None:
        """Use the texts of a whole file; a record without one has an error."""
        self.texts = {record: _texts(cell) for record, cell in cells.items() if cell is not None}
        self.batches = list(batches)

    def commit(self) -> None:
        """Keep what has been generated since the last commit.

        Raises:
            ZerotuneError, OSError: it cannot be written.
        """
        self._committed_at = time.monotonic()
        if not self._new_batches:
            return
        commit = _Commit(plan=self.plan.digest, shard=self.shard, texts=self._new_texts, batches=self._new_batches)
        self._committed += 1
        self.write(self.plan.partial_name(self.shard, self._committed), commit.encoded())
        self._new_texts, self._new_batches = {}, []

    def remove(self) -> None:
        """Remove the files: the shard is whole."""
        for number in range(1, self._committed + 1):
            self.output.remove(self.plan.partial_name(self.shard, number))


def _texts(cell: Cell) -> list[str]:
    if isinstance(cell, str):
        return [cell]
    several = [each for each in cell if isinstance(each, str)] if isinstance(cell, list) else []
    return several or [json.dumps(cell)]


def read_commits(output: Folder, plan: WorkPlan, shard: int) -> list[_Commit]:
    """What was kept of a shard, up to the first file that is not there, not whole, or of another plan."""
    commits: list[_Commit] = []
    while (commit := _read(output, plan, shard, len(commits) + 1)) is not None:
        commits.append(commit)
    return commits


def _read(output: Folder, plan: WorkPlan, shard: int, number: int) -> _Commit | None:
    found = output.read(plan.partial_name(shard, number))
    text = None if found is None else unseal(found.content)
    if text is None:
        return None
    try:
        commit = _Commit.model_validate_json(text)
    except ValidationError:
        return None
    return commit if (commit.plan, commit.shard) == (plan.digest, shard) else None
