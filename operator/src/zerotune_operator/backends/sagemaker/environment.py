"""`backend.sagemaker.environment`: variables that a job may not set. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from zerotune_operator.api.manifest_yaml import Path, Problem
from zerotune_operator.backends.sagemaker.secret_values import is_name_of_secret, secret_in

_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,511}")
_OWN_PREFIX = "ZEROTUNE_"
_OWN = frozenset(
    {
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT", "DS_ACCELERATOR", "CUDA_VISIBLE_DEVICES"),
    }
)
"""What a rank finds its place by: the launcher sets it, from the plan."""
_SEEN = (
    "and everyone who may describe the training job reads its environment: leave it out; S3 is read with the rights of "
    "the execution role, and a model of the Hub that needs a token is to be copied to S3. A script of yours can ask "
    "AWS Secrets Manager with that role"
)


def environment_problems(variables: Mapping[str, str], place: Path) -> Iterator[Problem]:
    """Variables that are none, that are zerotune's own, or that would show a secret.

    Args:
        variables: Them, by name.
        place: Where the spec has them.
    """
    for name, value in variables.items():
        if problem := _problem(name, value):
            yield Problem((*place, name), problem)


def _problem(name: str, value: str) -> str:
    if not _VARIABLE.fullmatch(name) or name.startswith(_OWN_PREFIX):
        return (
            "is no name that a variable may have here: write letters, digits and _, at most 512, and nothing that "
            f"begins with {_OWN_PREFIX}"
        )
    if name in _OWN:
        return "is set by the launcher, from the plan of the job: leave it out; nodes and ranks follow from topology"
    if is_name_of_secret(name):
        return f"is the name of a secret, {_SEEN}"
    found = secret_in(value)
    return f"has a value that looks like a secret ({found}), {_SEEN}" if found else ""
