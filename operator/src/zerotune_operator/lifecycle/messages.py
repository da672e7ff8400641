"""When two messages of a cluster give the same reason. Pure.

The scheduler, the kubelet and the Job controller repeat themselves with other figures: another random name,
another count, another time. Such a message is no news, and writing it would cost a status patch each time it is seen.
What a message quotes, and a number that is part of a name, still counts: `secret "keys-2" not found` is another reason
than `secret "keys-1" not found`.
"""

from __future__ import annotations

import re

from zerotune_operator.api.status import RootCause

_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?"
_UID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_POD = r"(?<=-)(?:[ai]?\d+-)?\d+-[bcdfghjklmnpqrstvwxz2456789]{5}(?![\w-])"
"""What ends the name of a pod of an Indexed Job: the attempt, the index, and five of the characters that Kubernetes
generates names from."""
_ADDRESS = r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"
_QUOTED = r'"[^"]*"'
_NUMBER = r"(?<![\w.:/@-])\d+(?:/\d+)?(?:\.\d+)?(?:(?:[a-zµ]{1,2}|[KMGTPE]i?)\d*)*(?![\w/@-]|\.\w|:\w)"
"""A number that stands alone, with its unit: `3`, `0/5`, `16Mi`, `1m20s`, `4.000000`."""

_VARIABLE = re.compile(
    rf"(?P<time>{_TIME})|(?P<uid>{_UID})|(?P<pod>{_POD})|(?P<address>{_ADDRESS})|(?P<number>{_NUMBER})"
)
_PARTS = re.compile(rf"({_QUOTED})")
_IN_QUOTES = re.compile(rf"{_UID}|{_POD}")


def normalized(message: str) -> str:
    """A message without what differs each time it is written."""
    parts = _PARTS.split(message)
    return "".join((_IN_QUOTES if index % 2 else _VARIABLE).sub("#", part) for index, part in enumerate(parts))


def keep_unless_changed(earlier: RootCause | None, found: RootCause | None) -> RootCause | None:
    """Of two causes the one to report: the earlier one as long as the other gives the same reason."""
    if earlier is None or found is None:
        return found
    return earlier if _comparable(earlier) == _comparable(found) else found


def same_reason(one: RootCause, other: RootCause) -> bool:
    """Whether two causes give the same reason, wherever it was seen."""
    return (one.failure_class, normalized(one.message)) == (other.failure_class, normalized(other.message))


def _comparable(cause: RootCause) -> RootCause:
    return cause.model_copy(update={"message": normalized(cause.message), "hint": normalized(cause.hint)})
