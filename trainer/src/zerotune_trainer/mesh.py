"""Where a rank stands in each way of splitting the work. Nothing else in the trainer asks how many ranks there are."""

from __future__ import annotations

from dataclasses import dataclass

from zerotune_trainer.context import RankContext


@dataclass(frozen=True)
class Axis:
    """A rank's place among those that share out one thing."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True)
class Mesh:
    """A rank's place in the data-, tensor-, sequence- and pipeline-parallel groups that it belongs to."""

    data: Axis = Axis()
    tensor: Axis = Axis()
    sequence: Axis = Axis()
    pipeline: Axis = Axis()

    @classmethod
    def of(cls, context: RankContext) -> Mesh:
        """The mesh of a rank: all ranks are data-parallel, each sees rows of its own."""
        return cls(data=Axis(context.rank, context.world_size))

    @property
    def size(self) -> int:
        """Ranks in all."""
        return self.data.size * self.tensor.size * self.sequence.size * self.pipeline.size
