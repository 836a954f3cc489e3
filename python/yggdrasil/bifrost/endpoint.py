"""The Litestar door: `/bifrost`, WebSocket subprotocol `bifrost.v1`.

Each socket is three tasks: the handler, which waits for the end, a reader and a writer. The writer pulls from
the core only when the socket took the frame before, so that a slow reader fills the core's bounded queue and
is cut there.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect, WebSocketException
from litestar.params import SkipValidation

from yggdrasil.bifrost.hub import Hub
from yggdrasil.wire.limits import SUBPROTOCOL, CloseCode

_Any = WebSocket[Any, Any, Any]

CLOSE_SECONDS: Final = 1.0
"""How long a close frame may wait for a peer that does not read."""


class _LitestarSocket:
    """The hub's view of one socket."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.pending = asyncio.Event()
        self.last: str | None = None

    def wake(self) -> None:
        self.pending.set()

    def say_last(self, frame: str) -> None:
        self.last = frame

    def close(self, code: int, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result((int(code), reason))


async def _read(socket: _Any, hub: Hub, session: int) -> None:
    while True:
        message = await socket.receive()
        if message["type"] != "websocket.receive":
            return
        text = message.get("text")
        wait = hub.receive(session, (message.get("bytes") or b"") if text is None else text)
        if wait:
            await asyncio.sleep(wait)


async def _write(socket: _Any, hub: Hub, session: int, pending: asyncio.Event) -> None:
    while True:
        await pending.wait()
        pending.clear()
        while (frame := hub.pull(session)) is not None:
            if isinstance(frame, str):
                await socket.send({"type": "websocket.send", "text": frame, "bytes": None})
            else:
                await socket.send({"type": "websocket.send", "bytes": frame, "text": None})


async def _close(socket: _Any, code: int, reason: str, last: str | None = None) -> None:
    with contextlib.suppress(TimeoutError, WebSocketException, OSError, RuntimeError):
        async with asyncio.timeout(CLOSE_SECONDS):
            if last is not None:
                await socket.send({"type": "websocket.send", "text": last, "bytes": None})
            await socket.close(code=code, reason=reason)


@websocket("/bifrost", opt={"exclude_from_auth": True})
async def bifrost(socket: _Any, hub: NamedDependency[SkipValidation[Hub]]) -> None:
    """One session, from the handshake to its end."""
    if SUBPROTOCOL not in socket.scope["subprotocols"]:
        await socket.accept()
        await _close(socket, CloseCode.SUBPROTOCOL, f"subprotocol {SUBPROTOCOL} is needed")
        return
    await socket.accept(subprotocols=SUBPROTOCOL)
    with hub.serving():
        await _serve(socket, hub)


async def _serve(socket: _Any, hub: Hub) -> None:
    shell = _LitestarSocket()
    session = hub.open(shell)
    if session is None:
        await _close(socket, *shell.ended.result())
        return
    reader = asyncio.create_task(_read(socket, hub, session))
    writer = asyncio.create_task(_write(socket, hub, session, shell.pending))
    try:
        ways_out: tuple[asyncio.Future[Any], ...] = (reader, writer, shell.ended)
        await asyncio.wait(ways_out, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.closed(session)
        for task in (reader, writer):
            task.cancel()
        results = await asyncio.gather(reader, writer, return_exceptions=True)
        if shell.ended.done():
            await _close(socket, *shell.ended.result(), shell.last)
    for result in results:
        # The peer hung up, or the transport failed: both are the end of a socket, nothing to report.
        if isinstance(result, Exception) and not isinstance(
            result, (WebSocketDisconnect, OSError, RuntimeError)
        ):
            raise result
