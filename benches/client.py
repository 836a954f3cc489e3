"""The load client: one small HTTP/1.1 client over raw asyncio transports, the same for us and for every peer.

A request is bytes that are written as they are, an answer is read as far as its length or its last chunk,
and nothing of it is decoded. Closed loop: each connection asks again as soon as it was answered. Open loop:
requests are due at fixed times and their latency counts from then, however late they are sent, so that a
server that stalls is charged for everybody who had to wait (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

ANSWER_SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024


class BenchError(Exception):
    """A run that measured something else than it should have."""


@dataclass(frozen=True, slots=True)
class Target:
    """One request to one server, and what its answer must hold."""

    port: int
    request: bytes
    expect: bytes

    @classmethod
    def of(
        cls, port: int, method: str, path: str, *, token: str = "", body: bytes = b"", expect: bytes = b""
    ) -> Target:
        head = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{port}", "accept: application/json"]
        if token:
            head.append(f"authorization: Bearer {token}")
        if body:
            head += ["content-type: application/json", f"content-length: {len(body)}"]
        return cls(port, ("\r\n".join(head) + "\r\n\r\n").encode() + body, expect)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run saw. Latencies in seconds, sorted."""

    seconds: float
    latencies: list[float]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        if not self.latencies:
            raise BenchError("nothing was measured")
        rank = min(len(self.latencies) - 1, int(len(self.latencies) * percent / 100))
        return self.latencies[rank] * 1000


class Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request on its way."""

    def __init__(self, target: Target, lost: Callable[[Exception], None]) -> None:
        self._target = target
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._whole = -1
        self._chunked = False
        self._answered: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # create_connection gives nothing else; uvloop's transport is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, answered: Callable[[], None]) -> None:
        assert self._transport is not None  # noqa: S101  create_connection has returned
        self._answered = answered
        self._transport.write(self._target.request)

    def close(self) -> None:
        self._answered = None
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._whole < 0 and not self._chunked:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(bytes(buffer[:end]).lower(), end + 4)
        if self._chunked:
            if not buffer.endswith(b"\r\n0\r\n\r\n"):
                return
        elif len(buffer) < self._whole:
            return
        if not buffer.startswith(b"HTTP/1.1 200") or self._target.expect not in buffer:
            self._fail(BenchError(f"unexpected answer: {bytes(buffer[:600])!r}"))
            return
        buffer.clear()
        self._whole, self._chunked = -1, False
        answered, self._answered = self._answered, None
        if answered is not None:
            answered()

    def _read_head(self, head: bytes, length: int) -> None:
        self._chunked = b"transfer-encoding: chunked" in head
        if not self._chunked:
            field = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            if not field.strip().isdigit() or int(field) > ANSWER_BYTES_MAX:
                self._fail(BenchError(f"an answer without a usable length: {head[:600]!r}"))
                return
            self._whole = length + int(field)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None:
            self._fail(exc or BenchError("the server hung up in the middle of a request"))

    def _fail(self, error: Exception) -> None:
        self._answered = None
        self._lost(error)


class _Load:
    """Connections to a target and the answers they got."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.latencies: list[float] = []
        self.connections: list[Connection] = []

    async def connect(self, count: int) -> None:
        for number in range(count):
            target = self.targets[number % len(self.targets)]
            made = Connection(target, self._lost)
            await self.loop.create_connection(lambda made=made: made, "127.0.0.1", target.port)  # type: ignore[misc]
            self.connections.append(made)

    def _lost(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    async def finish(self, seconds: float) -> None:
        # A collection in the client would look like a pause of the server.
        gc.collect()
        gc.disable()
        try:
            async with asyncio.timeout(seconds + ANSWER_SECONDS_MAX):
                await self.ended
        except TimeoutError:
            raise BenchError("answers were still missing long after the end of the run") from None
        finally:
            gc.enable()
            for connection in self.connections:
                connection.close()
        self.latencies.sort()


async def closed_loop(*targets: Target, connections: int, seconds: float) -> Sample:
    """As many requests as `connections`, dealt out to `targets`, can get answered in `seconds`."""
    load = _Load(targets)
    await load.connect(connections)
    running = connections
    started = time.perf_counter()
    until = started + seconds

    def ask(connection: Connection) -> None:
        sent = time.perf_counter()

        def answered() -> None:
            nonlocal running
            now = time.perf_counter()
            load.latencies.append(now - sent)
            if now < until:
                ask(connection)
                return
            running -= 1
            if not running and not load.ended.done():
                load.ended.set_result(None)

        connection.ask(answered)

    for connection in load.connections:
        ask(connection)
    await load.finish(seconds)
    return Sample(time.perf_counter() - started, load.latencies)


async def open_loop(target: Target, *, per_second: float, connections: int, seconds: float) -> Sample:
    """`per_second` requests at even distances for `seconds`; one that finds no free connection waits."""
    load = _Load((target,))
    await load.connect(connections)
    free = deque(load.connections)
    due: deque[float] = deque()
    planned = int(per_second * seconds)
    issued = 0
    # Not the loop's own clock: uvloop's stands still for a millisecond.
    started = time.perf_counter() + 0.01

    def ask(connection: Connection, intended: float) -> None:
        def answered() -> None:
            load.latencies.append(time.perf_counter() - intended)
            if due:
                ask(connection, due.popleft())
                return
            free.append(connection)
            if len(load.latencies) == planned and not load.ended.done():
                load.ended.set_result(None)

        connection.ask(answered)

    def release() -> None:
        nonlocal issued
        now = time.perf_counter()
        while issued < planned and (intended := started + issued / per_second) <= now:
            issued += 1
            if free:
                ask(free.popleft(), intended)
            else:
                due.append(intended)
        if issued < planned and not load.ended.done():
            load.loop.call_later(started + issued / per_second - now, release)

    release()
    await load.finish(seconds)
    return Sample(time.perf_counter() - started, load.latencies)
