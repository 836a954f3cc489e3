"""Clients that hang up before their answer: noticed in one place, for whatever route runs a compute request.

A handler reads the body and then no more, so nobody would hear of it. Here somebody reads on; a client that
is gone cancels the handler, and with it the request, waiting or running.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

    from litestar.types import ASGIApp, Message, Receive, Scope, Send

LOOK_AFTER_SECONDS: Final = 0.5
"""Whoever waits longer than this for an answer is watched for hanging up; most answers come sooner."""


class Attendance:
    """Cancels the task it was made in if the client hangs up inside the `with`, unless the answer has begun;
    the cancellation ends there, for nobody is left to be answered.

    Nobody but it may read what it was given; `receive` is for whoever reads on.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task = asyncio.current_task()
        self._read = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._gone = False
        self.answering = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._gone and self._task is not None:
            self._task.uncancel()
            return isinstance(error, asyncio.CancelledError)
        return False

    def look_later(self) -> None:
        """The body has been read: from soon on, somebody looks."""
        self._read = True
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_SECONDS, self._look)

    async def receive(self) -> Any:
        """The body, and after it the client's hanging up."""
        if not self._read:
            event: Any = await self._receive()
            if event["type"] == "http.request" and not event.get("more_body", False):
                self.look_later()
            return event
        await asyncio.shield(self._look())
        return {"type": "http.disconnect"}

    def _look(self) -> asyncio.Task[None]:
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._wait())
        return self._watch

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.answering and self._task is not None:
            self._gone = True
            self._task.cancel()


def noticing_hangups(app: ASGIApp) -> ASGIApp:
    """Middleware of a handler that begins a run. Once the answer has begun, its own sending notices."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        with Attendance(receive) as there:

            async def tell(message: Message) -> None:
                there.answering = True
                await send(message)

            await app(scope, there.receive, tell)

    return serve
