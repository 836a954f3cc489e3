"""What a session hands out: links between two devices, and jobs from the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from yggdrasil.errors import Conflict, LimitReached, Unavailable
from yggdrasil.wire.client import Client
from yggdrasil.wire.messages import JobOffer


class Driver(Protocol):
    """The session as its links see it."""

    client: Client

    def wake(self) -> None:
        """Something may be ready to be written."""

    async def written(self, link: int) -> None:
        """Wait until everything queued on a link is handed to the socket, or the session is over."""

    def forget(self, link: int) -> None:
        """A link ended here."""


class Channel:
    """The sending half that links and jobs share."""

    def __init__(self, driver: Driver, number: int) -> None:
        self.number = number
        self._driver = driver
        self._writable = asyncio.Event()
        self._over: str | None = None

    @property
    def open(self) -> bool:
        """Whether something can still be sent."""
        return self._over is None

    async def send(self, payload: bytes) -> None:
        """Queue 1 to `PAYLOAD_BYTES_MAX` bytes; waits while the other side's reader is behind.

        Conflict once the link has ended.
        """
        while True:
            if self._over is not None:
                raise Conflict(f"link {self.number}: {self._over}")
            try:
                self._driver.client.send(self.number, payload)
            except LimitReached:
                self._writable.clear()
                await self._writable.wait()
            else:
                self._driver.wake()
                return

    def writable(self) -> None:
        """From the session: the queue, full before, is empty."""
        self._writable.set()

    def _finish(self, why: str) -> None:
        if self._over is None:
            self._over = why
        self._writable.set()


class DeviceLink(Channel):
    """A link to another device of the own network. Iterate to receive; the frames keep their borders.

    What is received but not yet taken is bounded by the link's credit (256 KiB).
    """

    def __init__(self, driver: Driver, number: int, peer: str, purpose: str) -> None:
        super().__init__(driver, number)
        self.peer = peer
        self.purpose = purpose
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._lost = False

    async def receive(self) -> bytes | None:
        """The next payload, or None once the peer has ended the link. Unavailable if the connection was
        lost.
        """
        payload = await self._inbox.get()
        if payload is None:
            self._inbox.put_nowait(None)  # for whoever asks again
            if self._lost:
                raise Unavailable(f"link to {self.peer}: {self._over}")
            return None
        if self.open:
            self._driver.client.consumed(self.number, len(payload))
            self._driver.wake()
        return payload

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (payload := await self.receive()) is not None:
            yield payload

    async def close(self) -> None:
        """End the link after what was sent on it; returns once that is handed to the socket."""
        if not self.open:
            return
        self._driver.client.disconnect(self.number)
        self._finish("closed here")
        self._inbox.put_nowait(None)
        self._driver.wake()
        await self._driver.written(self.number)
        self._driver.forget(self.number)

    def arrived(self, payload: bytes) -> None:
        """From the session."""
        self._inbox.put_nowait(payload)

    def ended(self, why: str, *, lost: bool) -> None:
        """From the session: the peer ended the link, or the socket is gone."""
        if self.open:
            self._lost = lost
            self._finish(why)
            self._inbox.put_nowait(None)


class Job(Channel):
    """A compute job on a link of its own: `accept` or `busy`, then `send` documents, then `done` or
    `fault`.
    """

    def __init__(self, driver: Driver, offer: JobOffer) -> None:
        super().__init__(driver, offer.link)
        self.job_id = offer.job
        self.kind = offer.kind
        self.model = offer.model
        self.deadline_ms = offer.deadline_ms
        self._body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    async def body(self) -> bytes:
        """The whole request."""
        return await asyncio.shield(self._body)

    def accept(self) -> None:
        """Take the job; at once, the server waits for it only a few seconds."""
        self._driver.client.accept(self.number)
        self._driver.wake()

    def busy(self, message: str = "") -> None:
        """Refuse it; the server asks another provider."""
        self._end("busy", lambda: self._driver.client.busy(self.number, message[:256]))

    def done(self, *, prompt_tokens: int, completion_tokens: int) -> None:
        """It is complete: follows the documents sent."""
        self._end(
            "done",
            lambda: self._driver.client.done(
                self.number, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
            ),
        )

    def fault(self, code: str, message: str = "") -> None:
        """It failed here: follows the documents sent."""
        self._end("failed", lambda: self._driver.client.fault(self.number, code, message[:256]))

    def _end(self, why: str, final: Callable[[], None]) -> None:
        final()
        self._finish(why)
        self._driver.wake()

    def ready(self, body: bytes) -> None:
        """From the session."""
        if not self._body.done():
            self._body.set_result(body)

    def cancelled(self, why: str) -> None:
        """From the session: stop the work, nothing more may be sent."""
        self._finish(why)
        self._body.cancel()
        if self.task is not None:
            self.task.cancel()
