"""Group commit: what is asked while a batch is on its way to the database goes together in the next one.

There is no timer: an item that finds a free slot goes at once, alone. Whoever waits for an item may leave;
the batch goes on. How many wait at most is what the callers limit: a request waits for one item at a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar
from uuid import UUID

from yggdrasil.errors import Unavailable

ITEMS_MAX: Final = 32
IN_FLIGHT_MAX: Final = 2
SECOND_ITEMS_MIN: Final = 16
"""So many must wait before another batch goes while one is on its way: half of what a small batch costs is
the batch. One that waits for a locked row keeps few waiting, not many, and none beyond its lock timeout."""
ASIDE_IN_FLIGHT_MAX: Final = 2

T = TypeVar("T")

Call = Callable[[Sequence[T]], Awaitable[Sequence[str]]]
"""Writes items in one transaction; answers the outcome of each, in order. Of several items an outcome may be
`alone` (ask again with this item by itself), `again` (ask again) or `busy <network>` (ask again, by itself,
and let nobody else wait: somebody keeps rows of this network locked). An item by itself gets its error, or an
outcome that is final."""


class Batcher(Generic[T]):
    """Items in, outcomes out. `order` is the order in which a batch takes its locks; `networks` are those
    whose balances an item locks."""

    def __init__(
        self,
        call: Call[T],
        *,
        order: Callable[[T], tuple[object, ...]],
        networks: Callable[[T], Sequence[UUID]],
    ) -> None:
        self._call = call
        self._order = order
        self._networks = networks
        self._waiting: deque[tuple[T, asyncio.Future[str]]] = deque()
        self._aside: dict[UUID, deque[tuple[T, asyncio.Future[str]]]] = defaultdict(deque)
        """Items of a network with locked rows, one after another."""
        self._flying = 0
        self._aside_slots = asyncio.Semaphore(ASIDE_IN_FLIGHT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self.sizes: Counter[int] = Counter()
        """How many batches of each size were sent."""

    async def submit(self, item: T) -> str:
        """The outcome of an item, once its batch is committed. Raises what the item alone would raise;
        Unavailable if nobody knows whether it was committed."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for network in self._networks(item):
            if network in self._aside:
                self._aside[network].append((item, answer))
                break
        else:
            self._waiting.append((item, answer))
            if self._flying == 0 or (self._flying < IN_FLIGHT_MAX and self._worth_another()):
                self._flying += 1
                self._start(self._fly())
        return await answer

    def _start(self, work: Awaitable[None]) -> None:
        # In a context of its own: a batch belongs to none of the requests in it.
        task = asyncio.get_running_loop().create_task(_run(work), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _worth_another(self) -> bool:
        return len(self._waiting) >= SECOND_ITEMS_MIN

    async def _fly(self) -> None:
        """One batch after another, as long as anybody waits; beside another flight, as long as many do."""
        try:
            while self._waiting and (self._flying == 1 or self._worth_another()):
                # What is ready in this turn of the loop comes along.
                await asyncio.sleep(0)
                batch: list[tuple[T, asyncio.Future[str]]] = []
                while self._waiting and len(batch) < ITEMS_MAX:
                    entry = self._waiting.popleft()
                    # Who left before it was sent took it with him.
                    if not entry[1].done():
                        batch.append(entry)
                if batch:
                    await self._send(batch)
        finally:
            self._flying -= 1

    async def _send(self, batch: list[tuple[T, asyncio.Future[str]]]) -> Exception | None:
        """Each item's answer, now or later; the error, if there were none."""
        batch.sort(key=lambda entry: self._order(entry[0]))
        self.sizes[len(batch)] += 1
        outcomes: Sequence[str]
        try:
            outcomes = await self._call([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, Unavailable):
                # Some item's, and nothing is written: each by itself, so that the guilty one gets it.
                await self._send_alone(batch)
                return None
            for number, (_, answer) in enumerate(batch):
                _fail(answer, error, first=number == 0)
            return error
        except BaseException:
            # The loop ends: nobody knows whether it was committed.
            for _, answer in batch:
                _fail(answer, Unavailable("The server stopped"), first=True)
            raise
        alone = []
        for entry, outcome in zip(batch, outcomes, strict=True):
            if outcome.startswith("busy "):
                self._set_aside(UUID(outcome.removeprefix("busy ")), entry)
            elif outcome == "again":
                self._waiting.append(entry)
            elif outcome == "alone":
                alone.append(entry)
            elif not entry[1].done():
                entry[1].set_result(outcome)
        await self._send_alone(alone)
        return None

    async def _send_alone(self, entries: Sequence[tuple[T, asyncio.Future[str]]]) -> None:
        for entry in entries:
            if not entry[1].done():
                await self._send([entry])

    def _set_aside(self, network: UUID, entry: tuple[T, asyncio.Future[str]]) -> None:
        new = network not in self._aside
        self._aside[network].append(entry)
        if new:
            self._start(self._send_aside(network))

    async def _send_aside(self, network: UUID) -> None:
        """The items of one network, each by itself, until none is left. What one of them waited for in vain,
        the others have waited for too."""
        error = Unavailable("The server stopped")
        try:
            while waiting := self._aside[network]:
                entry = waiting.popleft()
                if entry[1].done():
                    continue
                async with self._aside_slots:
                    failed = await self._send([entry])
                # Any other error is that item's own.
                if isinstance(failed, Unavailable):
                    error = failed
                    break
        finally:
            for _, answer in self._aside.pop(network):
                _fail(answer, error, first=False)


async def _run(work: Awaitable[None]) -> None:
    await work


def _fail(answer: asyncio.Future[str], error: Exception, *, first: bool) -> None:
    if answer.done():
        return
    if isinstance(error, Unavailable) and not first:
        # An exception that several raise would grow by the trace of each.
        error = Unavailable(error.detail, retry_after_seconds=error.retry_after_seconds)
    answer.set_exception(error)
