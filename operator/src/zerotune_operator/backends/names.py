"""What the objects of a job are named by, on every backend. Pure."""

from __future__ import annotations

import hashlib

from zerotune_operator.api.jobs import Job

ATTEMPT_LETTERS = {"FineTuneJob": "a", "InferenceJob": "i"}
"""What the number of an attempt follows in a name: jobs of both kinds may have one name."""

_NAME_LENGTH = 43
"""Characters of a job's name in those of its objects. The longest is the host name of a pod, a DNS label of at most 63:
`NAME-HASH-a9999-4095` is that of one among 10,000 attempts of 4,096 pods."""
_HASH_TO_COME = "xxxxxxxx"
"""Stands for the hash in a plan of a job that the API server has yet to give a uid."""


def stem(job: Job, name: str | None = None) -> str:
    """The job's name, cut to fit, and a hash of its uid.

    The kubelet, name servers and SageMaker know objects by name: those of a job must not have the names of those that
    an earlier job of its name had.

    Args:
        job: The job.
        name: What the name begins with instead of the job's own.
    """
    uid = job.metadata.uid
    digest = hashlib.sha256(uid.encode()).hexdigest()[: len(_HASH_TO_COME)] if uid else _HASH_TO_COME
    return f"{(name or job.metadata.name)[:_NAME_LENGTH].rstrip('-')}-{digest}"
