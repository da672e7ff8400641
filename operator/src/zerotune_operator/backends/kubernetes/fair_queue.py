"""A queue that serves namespaces in turn: however many items one of them has, the next item of another is not far."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class FairQueue(Generic[ItemT]):
    """Items by namespace, first in first out within each."""

    def __init__(self) -> None:
        self._items: dict[str, deque[ItemT]] = {}
        """In the order in which the namespaces are served."""

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def put(self, namespace: str, item: ItemT) -> None:
        """Append an item of a namespace."""
        self._items.setdefault(namespace, deque()).append(item)

    def get(self) -> ItemT | None:
        """The next item; None where there is none."""
        if not self._items:
            return None
        namespace = next(iter(self._items))
        items = self._items.pop(namespace)
        item = items.popleft()
        if items:
            self._items[namespace] = items  # Its next item waits for one of every other namespace.
        return item
