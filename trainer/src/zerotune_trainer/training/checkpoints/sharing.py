"""How the ranks share the files of a checkpoint out among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from zerotune_trainer.context import RankContext
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.manifest import ManifestFile
from zerotune_trainer.mesh import Mesh
from zerotune_trainer.training.checkpoints.store import CheckpointStore

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """This rank among all, and among those that see the same folder: all, or those of a host where it is staged."""

    rank: int
    ranks: int
    index: int
    count: int

    @classmethod
    def of(cls, store: CheckpointStore, context: RankContext, mesh: Mesh) -> Share:
        """The share of a rank."""
        index, count = (context.local_rank, context.host.slots) if store.is_staged else (context.rank, mesh.size)
        return cls(context.rank, mesh.size, index, count)

    @property
    def is_first(self) -> bool:
        """Whether this rank does what is done once a folder."""
        return self.index == 0

    def of_files(self, files: Sequence[T]) -> Sequence[T]:
        """The files that this rank reads; together the ranks read each."""
        return files[self.index :: self.count]


def check_ranks(name: str, files: Sequence[ManifestFile], ranks: int) -> None:
    """See that a checkpoint has the parts of as many ranks as there are: each leaves a file of its random state.

    Raises:
        ConfigurationError: it has not.
    """
    found = sum(file.path.startswith("rng_state") for file in files)
    if found != ranks:
        raise ConfigurationError(
            f"{name} has the parts of {counted(found, 'rank')}, and this job runs on {ranks}",
            "run on as many ranks as wrote it, let all hosts see one checkpoint folder, or set `resume: never`",
        )
