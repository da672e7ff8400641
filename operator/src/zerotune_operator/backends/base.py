"""The seam between a job and what runs it.

    find_inputs > plan > render > apply    how an attempt begins
    attempt_ref > observe                  how it goes on
    stop, close, restore                   what is done about it
    clean_up, finalize                     what is left when it has ended

A backend is the backend of one job. It decides nothing: whether a job failed, restarts or is done is for
`zerotune_operator.lifecycle.transitions` to say, and what happens next for `zerotune_operator.backends.driver`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from zerotune_operator.api.status import JobStatus
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_operator.plan import Partition, Plan
from zerotune_trainer.config.model_shape import ModelShape

RenderedT = TypeVar("RenderedT")
"""What a backend applies: the objects of a cluster, the processes of this machine."""


class Inputs(NamedTuple):
    """What a job starts from: a model, and what other jobs have written."""

    model_uri: str
    """As a user writes it, or the output of the FineTuneJob that the spec names."""
    shape: ModelShape
    data_uris: dict[str, str]
    """Outputs of the InferenceJobs that the spec names, by the part of it that they are for: `data.train`."""
    reference: ModelShape | None = None
    """Of the model that `preference.referenceModel` names, where it is known."""
    partition: Partition | None = None
    """Of the checkpoints that earlier attempts may have left, where the next one may have other machines."""


class Backend(Protocol[RenderedT]):
    """Runs one job, an attempt at a time.

    All methods that do I/O may raise TemporaryError: the same call may succeed later.
    """

    async def find_inputs(self, status: JobStatus) -> Inputs | Awaited:
        """The model and the outputs of other jobs, or what the job waits for before it can be planned.

        Raises:
            ConfigurationError, DataError, InputMissingError: there is no such input, and there will be none.
        """

    def plan(self, inputs: Inputs, attempt: int) -> Plan:
        """The plan of an attempt, with the runtime layout of this backend.

        Raises:
            ConfigurationError: the job cannot run here.
        """

    def render(self, plan: Plan) -> RenderedT:
        """What there should be, as data. Pure: no clock, no clients, no files."""

    async def has_started(self, attempt: int) -> bool:
        """Whether an attempt was applied, as far as it can be observed: the status may not record it yet.

        Raises:
            ConfigurationError: what has the name of the attempt is not this job's.
        """

    async def apply(self, rendered: RenderedT) -> None:
        """Make it exist. Applying the same twice changes nothing.

        Raises:
            ConfigurationError: it is rejected.
        """

    def attempt_ref(self, attempt: int, config_digest: str, hosts: Sequence[str] = ()) -> AttemptRef:
        """What is observed of an attempt that was applied.

        Args:
            attempt: Its number.
            config_digest: The digest that the status has, for an attempt that does not record its own.
            hosts: Those that the status records of it: none until it was observed once.
        """

    async def observe(self, attempt: AttemptRef) -> Observation:
        """What the nodes of the attempt do; once all have ended, also its result."""

    async def stop(self, attempt: AttemptRef) -> None:
        """Ask the nodes to save a checkpoint and end, and kill those that do not in time. It is called again as long as
        one of them runs.
        """

    async def close(self, attempt: AttemptRef, seen: Observation) -> None:
        """See to it that nothing starts another node in the place of those of the attempt, which have all ended."""

    async def restore(self, attempt: AttemptRef, seen: Observation, plan: Callable[[], Plan]) -> None:
        """Make again what the nodes of the attempt need and somebody has deleted, and take over what may change in the
        spec of a job that runs.

        Args:
            attempt: The attempt.
            seen: What its nodes do.
            plan: Makes its plan again.
        """

    async def clean_up(self, newest: int) -> None:
        """Delete what is left of attempts that the status no longer lists.

        Args:
            newest: Number of the newest attempt.
        """

    async def finalize(self, status: JobStatus) -> None:
        """End what still runs of a job that is deleted, or that is no longer driven.

        Args:
            status: The status that was written last.
        """
