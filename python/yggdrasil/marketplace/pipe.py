"""The bounded way from the run of a request to whoever reads its answer."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")

ITEMS_MAX: Final = 64


class Pipe(Generic[T]):
    """A queue with one writer and one reader. A full pipe makes the writer wait, and so the provider (by
    its credit); a reader who leaves wakes the writer."""

    def __init__(self, items_max: int = ITEMS_MAX) -> None:
        self._items: deque[T] = deque()
        self._items_max = items_max
        self._changed = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None
        self.left = False

    def offer(self, item: T) -> bool:
        """Put an item if there is room now; False if not, or if the reader has left."""
        if self.left or len(self._items) >= self._items_max:
            return False
        self._items.append(item)
        self._changed.set()
        return True

    async def put(self, item: T) -> bool:
        """False once the reader has left: the item is dropped."""
        while not self.offer(item):
            if self.left:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def end(self, error: BaseException | None = None) -> None:
        """No more items; with `error`, the reader gets it after the last one."""
        self._ended = True
        self._error = error
        self._changed.set()

    def leave(self) -> None:
        """The reader wants no more."""
        self.left = True
        self._items.clear()
        self._changed.set()

    async def get(self) -> T | None:
        """The next item, or None at the end. Safe to cancel: an item is taken only when it is returned."""
        while not self._items:
            if self._ended or self.left:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._changed.set()
        return item
