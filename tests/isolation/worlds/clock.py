"""Virtual time: an event loop whose clock stands still until it is told to move, and that knows when nothing
is left to do.

Timers, timeouts and sleeps of the server under it fall due at virtual times, the same in both worlds, however
long the database took.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)
MONOTONIC_START_US = 1_000_000_000


class VirtualClock:
    """A `kernel.Clock`; wall and monotonic time are the same microseconds."""

    def __init__(self) -> None:
        self.us = MONOTONIC_START_US

    def now(self) -> datetime:
        return START + timedelta(microseconds=self.us - MONOTONIC_START_US)

    def monotonic(self) -> float:
        return self.us / 1_000_000


class _Timer(asyncio.TimerHandle):
    """Those due at one moment run in the order in which they were set, however many others are set
    between."""

    __slots__ = ("number",)
    number: int

    def __lt__(self, other: object) -> bool:
        if isinstance(other, _Timer):
            return (self._when, self.number) < (other._when, other.number)  # type: ignore[attr-defined]
        return NotImplemented


class VirtualLoop(asyncio.SelectorEventLoop):
    """`busy` says whether something outside of the loop owes it an answer: then it is not idle."""

    def __init__(self, clock: VirtualClock, busy: Callable[[], bool]) -> None:
        self.clock = clock
        self._busy = busy
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._timers = count()
        super().__init__()

    def time(self) -> float:
        return self.clock.monotonic()

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]
        # In whole microseconds, as the clock is: a sum of floats a hair above would be passed over.
        timer = _Timer(round(when * 1_000_000) / 1_000_000, callback, args, self, context)
        timer.number = next(self._timers)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """At once and here: a thread would end at a moment of its own, and the loop be idle until then."""
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    async def settle(self) -> None:
        """Until nothing is ready, nothing is due and nothing is owed."""
        waiter: asyncio.Future[None] = self.create_future()
        self._idle_waiters.append(waiter)
        await waiter

    async def pass_time(self, seconds: float) -> None:
        """Let virtual time pass from timer to timer, settled at each. Never by a jump after so many timers: a
        crowded world has more of them."""
        target_us = self.clock.us + round(seconds * 1_000_000)
        await self.settle()
        while (due_us := self.next_due_us()) is not None and due_us <= target_us:
            self.clock.us = max(self.clock.us, due_us)
            await self.settle()
        self.clock.us = target_us
        await self.settle()

    async def jump(self, seconds: float) -> None:
        """Everything that fell due meanwhile is late, as after a pause of the machine."""
        self.clock.us += round(seconds * 1_000_000)
        await self.settle()

    def next_due_us(self) -> int | None:
        """When the next timer falls due; None without one."""
        live = [handle._when for handle in self._scheduled if not handle._cancelled]  # type: ignore[attr-defined]
        return None if not live else round(min(live) * 1_000_000)

    def _run_once(self) -> None:
        if self._idle_waiters and not self._ready and not self._due() and not self._busy():  # type: ignore[attr-defined]
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        super()._run_once()  # type: ignore[misc]

    def _due(self) -> bool:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        return bool(scheduled) and scheduled[0]._when <= self.time()
