"""What a replica of the job has begun: a file of the output folder for each piece of work, which one of them creates.

    work/claim-000007        shard 7, see `plan.py`
    work/claim-plan          making the plan
    work/claim-results       verifying all shards and writing the result

Of several replicas that claim something at once one succeeds, by a link that never replaces a file or a conditional
write of S3. A claim holds until its replica is silent for long or has started anew (`heartbeats.py`); then another one
takes it over. The former owner may live after all, and finds out before it marks anything as whole. Should both write
a shard in the same moment, then no harm is done: they generate the same texts, and what is not as its marker says is
made again. So a claim saves time; it proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import TemporaryError
from zerotune_trainer.inference.plan import CLAIM_PREFIX
from zerotune_trainer.manifest import MANIFEST_NAME
from zerotune_trainer.storage import Folder

PLAN_CLAIM, RESULTS_CLAIM = f"{CLAIM_PREFIX}plan", f"{CLAIM_PREFIX}results"


class ClaimLostError(TemporaryError):
    """Another replica has taken over what this one had begun: it was silent for too long."""


class Claim(Settings):
    """Whose something is."""

    attempt: int
    replica: int
    start: str
    """Which start of the replica: one that was lost and comes back has begun nothing."""

    def encoded(self) -> bytes:
        """The file."""
        return self.model_dump_json(by_alias=True).encode()


@dataclass(frozen=True)
class Found:
    """A claim as it was read."""

    claim: Claim | None
    """None where the file cannot be read."""
    version: str


@dataclass(frozen=True)
class Claims:
    """The claims of a replica, on each of its ranks.

    Args:
        folder: The output folder.
        mine: What they hold.
    """

    folder: Folder
    mine: Claim

    def read(self, name: str) -> Found | None:
        """A claim; None where nobody has claimed it."""
        found = self.folder.read(name)
        if found is None:
            return None
        try:
            return Found(Claim.model_validate_json(found.content), found.version)
        except ValidationError:
            return Found(None, found.version)

    def take(self, name: str, version: str | None) -> bool:
        """Claim something.

        Args:
            name: The claim's file.
            version: Of the claim that is taken over; None: there is none.

        Returns:
            Whether it is this replica's. False where another one was faster, and where the result is there: claims are
            removed then, so that there may be nobody's again.
        """
        return self.folder.exchange(name, self.mine.encoded(), version) and self.folder.read(MANIFEST_NAME) is None

    def verify(self, name: str) -> None:
        """See that something is this replica's still.

        Raises:
            ClaimLostError: it is another's.
        """
        found = self.read(name)
        if found is None or found.claim != self.mine:
            raise ClaimLostError(
                f"{self.folder.uri}/{name} belongs to another replica by now", "nothing is to be done: that one goes on"
            )
