"""Jobs that start from each other's outputs: whether each can read what the one before it is to write. No I/O.

What starts a job that starts from one that has run already checks the output that it finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import origins
from zerotune_operator.backends.check import ANY_MODEL
from zerotune_operator.backends.registry import BACKENDS, Target


class Placed(NamedTuple):
    """A job, and what is to run it."""

    job: Job
    target: Target


def check_chain(link: Placed, others: Sequence[Placed]) -> None:
    """See that a job can read the outputs of those of the others that it starts from.

    Raises:
        ConfigurationError: it cannot.
    """
    by_name = {(other.job.kind, other.job.metadata.namespace, other.job.metadata.name): other for other in others}
    wanted = {origin.part: (origin.kind, link.job.metadata.namespace, origin.name) for origin in origins(link.job)}
    outputs = {part: _output_of(by_name[name]) for part, name in wanted.items() if name in by_name}
    BACKENDS[link.target].check_outputs(link.job, outputs)


def _output_of(placed: Placed) -> str:
    """Where a job is to write: as the spec says, else its own folder."""
    given = placed.job.spec.output.uri
    return given or BACKENDS[placed.target].outline(placed.job, ANY_MODEL).output_uri
