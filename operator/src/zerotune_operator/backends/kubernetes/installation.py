"""What the operator was installed with, as far as its jobs are made of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Installation:
    """What the operator was installed with."""

    trainer_image: str
    """Image of the pods of a job that names none."""
    image_pull_policy: str = "IfNotPresent"


UNKNOWN_INSTALLATION = Installation(trainer_image="unknown")
"""For objects that are made to see whether they can be made."""
