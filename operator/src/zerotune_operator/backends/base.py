"""The seam between a job and what runs it: `plan > render (pure) > apply > observe > status`.

A backend turns a Plan into what it starts (`render`), makes that be (`apply`), and says what is there (`observe`).
It decides nothing: whether a job failed, restarts or is done is for `zerotune_operator.lifecycle.transitions` to say.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from zerotune_operator.lifecycle.observation import Observation
from zerotune_operator.plan import Plan

RenderedT = TypeVar("RenderedT")


class Backend(Protocol[RenderedT]):
    """What runs jobs."""

    def render(self, plan: Plan) -> RenderedT:
        """What there should be, as data. Pure: no clock, no clients, no files."""

    async def apply(self, rendered: RenderedT) -> None:
        """Make it be. Applying the same twice changes nothing."""

    async def observe(self, rendered: RenderedT) -> Observation:
        """What there is."""

    async def stop(self, rendered: RenderedT) -> None:
        """Ask the nodes to save a checkpoint and end. They are observed until they have."""
