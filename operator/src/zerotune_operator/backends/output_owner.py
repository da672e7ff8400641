"""Whose an output is, before anything is started that would find that out when it writes there. Pure."""

from __future__ import annotations

from pydantic import ValidationError

from zerotune_operator.api.jobs import Job
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError


def require_own(output: str, owner_file: bytes | None, job: Job) -> None:
    """See that an output is a job's own, or nobody's.

    Args:
        output: Its URI.
        owner_file: What its owner file holds (`OWNER_NAME`); None where there is none.
        job: The job.

    Raises:
        ConfigurationError: it is another job's, of another name or begun at another time.
    """
    owner = _owner_of(owner_file)
    if owner is not None and owner.uid != job.metadata.uid:
        raise ConfigurationError(
            f"{output} holds the output of {described(owner.kind, owner.name, owner.uid, job)}",
            "name another output.uri, or empty that folder if nobody needs what it holds",
        )


def require_outside(output: str, parent: str, owner_file: bytes | None, job: Job) -> None:
    """See that an output does not lie in that of another job.

    Args:
        output: Its URI.
        parent: A folder that it lies in.
        owner_file: What the owner file of that folder holds; None where there is none.
        job: The job.

    Raises:
        ConfigurationError: it does.
    """
    owner = _owner_of(owner_file)
    if owner is not None and owner.uid != job.metadata.uid:
        raise ConfigurationError(
            f"{output} lies in {parent}, which holds the output of {described(owner.kind, owner.name, owner.uid, job)}",
            "name an output.uri outside of it",
        )


def _owner_of(owner_file: bytes | None) -> JobIdentity | None:
    """What is no owner file, the ranks reject in their own way."""
    try:
        return JobIdentity.model_validate_json(owner_file or b"")
    except ValidationError:
        return None


def described(kind: str, name: str, uid: str, job: Job) -> str:
    """Another job than `job`, as its user knows it: it may have the same name."""
    if (kind, name) == (job.kind, job.metadata.name):
        return f"another {kind} of this name, {name} (uid {uid})"
    return f"{kind} {name} (uid {uid})"
