"""What a report shows of the records of an InferenceJob: how many failed of what, and what became of the first ones.

Errors of records are texts, with the numbers of the record in them: without those they are classes. A job may have
millions of them, and a plug-in may say something else of each: no more than `MOST_CLASSES` are counted apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zerotune_trainer.config.base import Settings

MOST_CLASSES = 20
OTHERS = "other errors"
_LONGEST_CLASS = 200
_NUMBER = re.compile(r"\d[\d,.]*")


class ShownRecord(Settings):
    """A record and what became of it, as text."""

    record: str
    result: str
    is_error: bool = False


@dataclass
class ErrorClasses:
    """Classes of errors, and how many records have failed of each."""

    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, errors: Iterable[str]) -> ErrorClasses:
        """Those of some errors."""
        found = cls()
        for error in errors:
            found.add({_class(error): 1})
        return found

    def add(self, counts: Mapping[str, int]) -> None:
        """Count more of them."""
        for name, count in counts.items():
            is_known = name in self.counts or len(self.counts) < MOST_CLASSES
            self.counts[name if is_known else OTHERS] += count


def _class(error: str) -> str:
    first = error.partition("\n")[0]
    return _NUMBER.sub("N", first)[:_LONGEST_CLASS]
