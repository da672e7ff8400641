"""The seam between an InferenceJob and what generates: token ids of prompts in, generated token ids, scores or
vectors out.

    replica = ModelReplica(ranks=(0, 1), rank=1)
    engine = ENGINES["transformers"].load(config, replica)
    for completion in engine.run(requests, on_token):
        ...
    engine.close()

How requests become batches is the engine's business: it sees all requests of a shard at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.base import Settings

OnToken = Callable[[], None]
"""Called for every token position generated: reports to the launcher that the rank is alive, and raises to stop."""


@dataclass(frozen=True)
class Request:
    """A record's prompt. Sampling is seeded by the record, so that it depends on no batch, rank or restart."""

    record: int
    """The record's global number."""
    ids: list[int]
    """Token ids of the prompt."""
    continuations: list[list[int]] = field(default_factory=list)
    """For task `score`: token ids of what is scored behind the prompt."""

    longest: int = 0
    """Length of the longest request of its shard, also of those that an earlier attempt has done: with it the others
    fall into the batches that they would have been in."""

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the longest continuation."""
        return len(self.ids) + max(map(len, self.continuations), default=0)


class BatchFigures(Settings):
    """What one batch took."""

    records: int
    prompt_tokens: int
    new_tokens: int
    """Tokens that were generated, scored, or embedded."""
    seconds: float


class Score(Settings):
    """How likely the model finds a continuation of a prompt."""

    log_likelihood: float
    """Sum of the log-probabilities of its tokens, in nats."""
    tokens: int


class Vector(Settings):
    """The embedding of a text."""

    values: list[float]
    """As many as the model's hidden size."""
    tokens: int
    """Of the text."""


Sequences = list[list[int]]
"""`numReturnSequences` lists of token ids: no prompt, no padding, no end token but the one that ended it."""

Results = Sequences | list[Score] | list[Vector]
"""What was generated for a record, the scores of its continuations, or its one embedding."""


@dataclass(frozen=True)
class Completion:
    """What an engine gives for a record."""

    record: int
    results: Results
    batch: BatchFigures | None = None
    """On the last completion of a batch: what the batch took."""


@dataclass(frozen=True)
class ModelReplica:
    """The ranks that hold one copy of the model, and draw one task together. The first of them leads: it draws and
    writes; all generate. A replica of the job (`topology.replicas`) is a whole world, and has one or more of these.
    """

    ranks: tuple[int, ...]
    rank: int
    """This rank."""
    local_rank: int = 0
    """Its number on its host, and that of its device."""

    @property
    def leader(self) -> int:
        """The rank that draws tasks and writes what comes of them."""
        return self.ranks[0]

    @property
    def is_leader(self) -> bool:
        """Whether this rank is it."""
        return self.rank == self.leader


class Engine(Protocol):
    """A loaded model that generates."""

    @classmethod
    def ranks_per_model_replica(cls, config: InferConfig, world_size: int) -> int:
        """Ranks that hold one copy of the model together, of `world_size` in all."""

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and generation together; None: any number."""

    @classmethod
    def load(cls, config: InferConfig, replica: ModelReplica) -> Self:
        """Load the model onto this rank of a model replica. Every rank of it calls this.

        Raises:
            ConfigurationError: the engine cannot do what the job asks for, or not with this model.
        """

    def run(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
        """Do what the job is for with every request, in whatever order, batch after batch. Every rank of the model
        replica calls this with the same requests; all see the same completions."""

    def close(self) -> None:
        """Give the model's memory back."""
