"""What is known of training jobs: each is described once a minute at most, however often its attempt is observed, and
asked for a change that AWS rejects once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from zerotune_operator.backends.sagemaker.client import SageMakerClient, TrainingJobDescription
from zerotune_operator.backends.sagemaker.observe import ENDED
from zerotune_trainer.errors import ConfigurationError, InputMissingError

_TIMES_AFTER_END = 3
_logger = logging.getLogger(__name__)


@dataclass
class _Known:
    """The last answer about a training job."""

    description: TrainingJobDescription | None
    asked_at: float
    missing_since: float | None


class TrainingJobs:
    """The training jobs of an account and region, by name.

    Args:
        client: AWS.
        max_age: Seconds after which a training job is described again.
        visible_within: Seconds that a training job may be unknown to SageMaker after its creation was accepted; one
            that is unknown for longer counts as deleted.
        clock: Seconds, of any beginning.
    """

    def __init__(
        self,
        client: SageMakerClient,
        max_age: float = 60.0,
        visible_within: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.visible_within = visible_within
        self._max_age, self._clock = max_age, clock
        self._known: dict[str, _Known] = {}
        self._created: dict[str, bool] = {}
        """By the names of those that this process has created: whether SageMaker has described them since."""
        self._not_created: set[str] = set()
        self._rejected: dict[str, dict[str, Any]] = {}
        self._ends: dict[str, tuple[datetime, int]] = {}

    async def describe(self, name: str) -> TrainingJobDescription | None:
        """A training job as it was within the last minute; None where SageMaker knows none of that name.

        Raises:
            ConfigurationError, TemporaryError: AWS does not answer.
        """
        known, now = self._known.get(name), self._clock()
        if known is not None and (_has_ended(known) or now - known.asked_at < self._max_age):
            return known.description
        description = await self.client.describe(name)
        if description is not None and name in self._created:
            self._created[name] = True
        since = known.missing_since if known else None
        self._known[name] = _Known(description, now, None if description else since or now)
        return description

    def is_missing(self, name: str) -> bool:
        """Whether a training job that should be there has been unknown to SageMaker for too long."""
        known = self._known.get(name)
        if known is None or known.missing_since is None:
            return False
        return self.missing_seconds(name) >= self.visible_within

    def missing_seconds(self, name: str) -> float:
        """For how long a training job has been unknown to SageMaker."""
        known = self._known.get(name)
        return 0.0 if known is None or known.missing_since is None else self._clock() - known.missing_since

    def may_appear(self, name: str) -> bool:
        """Whether a training job that SageMaker did not know when it was described may have been created all the same:
        neither was that rejected, nor has it been unknown for too long.
        """
        known = self._known.get(name)
        was_unknown = known is not None and known.missing_since is not None
        return was_unknown and name not in self._not_created and not self.is_missing(name)

    def created(self, name: str) -> None:
        """Note that this process has created a training job."""
        self._created[name] = False
        self._not_created.discard(name)

    def not_created(self, name: str) -> None:
        """Note that AWS has rejected the creation of a training job."""
        self._not_created.add(name)

    def was_created_here(self, name: str) -> bool:
        """Whether this process has created it."""
        return name in self._created

    def is_new(self, name: str) -> bool:
        """Whether this process has created it, and SageMaker, which may take a while, has yet to describe it."""
        return not self._created.get(name, True)

    def expire(self, name: str) -> None:
        """Describe a training job again next time: it was created, changed or stopped."""
        known = self._known.get(name)
        if known is not None:
            self._known[name] = _Known(None, float("-inf"), None)

    def expire_after_end(self, name: str, ended_at: datetime) -> None:
        """Describe a training job again next time, as a host of it has ended: some times for each end, as SageMaker
        takes a while to conclude. What a container has reported stays until the next one starts, and that may take
        hours where spot instances were taken back.
        """
        known_end, times = self._ends.get(name, (None, 0))
        times = times + 1 if known_end == ended_at else 1
        if times <= _TIMES_AFTER_END:
            self._ends[name] = (ended_at, times)
            self.expire(name)

    async def update(self, name: str, changes: dict[str, Any]) -> None:
        """Change a training job that runs. What AWS rejects is logged: the job goes on as it is.

        Raises:
            TemporaryError: AWS does not answer.
        """
        if self._rejected.get(name) == changes:
            return
        try:
            await self.client.update(name, changes)
        except (ConfigurationError, InputMissingError) as error:
            self._rejected[name] = changes
            _logger.warning("%s", error)
        self.expire(name)

    def forget(self, name: str) -> None:
        """Keep nothing of a training job: its attempt is over."""
        self._known.pop(name, None)
        self._created.pop(name, None)
        self._not_created.discard(name)
        self._rejected.pop(name, None)
        self._ends.pop(name, None)


def _has_ended(known: _Known) -> bool:
    return known.description is not None and known.description["TrainingJobStatus"] in ENDED
