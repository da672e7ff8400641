"""What is wrong with `backend.kubernetes.metadata`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.manifest_yaml import Problem
from zerotune_operator.backends.kubernetes.job_state import QUEUE_LABEL
from zerotune_operator.backends.kubernetes.objects import is_own_key, users_metadata

_PLACE = ("spec", "backend", "kubernetes", "metadata")
_SUBDOMAIN = r"(?=.{1,253}/)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_KEY = re.compile(rf"({_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
"""What the API server takes as the name of a label or an annotation: `PREFIX/NAME` or `NAME`."""


def metadata_problems(job: Job) -> Iterator[Problem]:
    """Labels and annotations that the API server rejects, or that are not the user's to set."""
    users = users_metadata(job)
    for field, values in {"labels": users.labels, "annotations": users.annotations}.items():
        for key in values:
            if message := _wrong(key):
                yield Problem((*_PLACE, field, key), message)


def _wrong(key: str) -> str | None:
    if key == QUEUE_LABEL:
        return "is set by runPolicy.queue: name the queue there, and leave it out here"
    if is_own_key(key):
        return "is zerotune's own, by which it finds the objects of a job: leave it out, or choose another name"
    if not _KEY.fullmatch(key):
        return (
            "is no name of a label or an annotation: write NAME or DOMAIN/NAME, as in example.com/team, the name of at "
            "most 63 letters, digits, '-', '_' and '.'"
        )
    return None
