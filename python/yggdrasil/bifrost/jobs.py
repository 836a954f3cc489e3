"""A job on its way: what the marketplace holds of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from yggdrasil.bifrost.protocol import Accepted, Busy, Chunks, Done, Fault, JobEvent
from yggdrasil.errors import Conflict

if TYPE_CHECKING:
    from yggdrasil.bifrost.effects import JobEnd
    from yggdrasil.bifrost.hub import Hub


class JobLink:
    """Async iterator of `JobEvent`: `Accepted`, then `Chunks`…, and last exactly one of `Busy`, `Done`,
    `Fault`.

    Asking for the next event is what grants the device more credit, so a slow consumer slows the device and
    nothing piles up. Leaving the iteration early (break under `contextlib.aclosing`, or cancellation) cancels
    the job.
    """

    def __init__(self, hub: Hub, number: int) -> None:
        self._hub = hub
        self._number = number
        self._ready = asyncio.Event()
        self._taken = False

    def __aiter__(self) -> AsyncGenerator[JobEvent, None]:
        if self._taken:
            raise Conflict("a job can be iterated once")
        self._taken = True
        return self._events()

    def cancel(self) -> None:
        """Tell the device to stop; the iteration ends without a last event. Idempotent."""
        self._hub.cancel_job(self._number)
        self._ready.set()

    def wake(self) -> None:
        """There is something to take. Called by the hub."""
        self._ready.set()

    async def _events(self) -> AsyncGenerator[JobEvent, None]:
        try:
            while True:
                self._ready.clear()
                batch = self._hub.take_job(self._number)
                if batch is None:
                    return
                accepted, parts, end = batch
                if accepted:
                    yield Accepted()
                if parts:
                    yield Chunks(parts)
                if end is not None:
                    yield _last(end)
                    return
                if not accepted and not parts:
                    await self._ready.wait()
        finally:
            self.cancel()


def _last(end: JobEnd) -> JobEvent:
    if end[0] == "busy":
        return Busy(end[1])
    if end[0] == "done":
        return Done({"prompt_tokens": end[1], "completion_tokens": end[2]})
    return Fault(end[1], end[2])
