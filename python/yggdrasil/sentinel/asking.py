"""The server's own application, asked in its process: a request, or a socket's session, through every layer
that a stranger's would pass but the HTTP parser.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from litestar.enums import ScopeType

from yggdrasil.observe import OF_THE_WATCH
from yggdrasil.wire.limits import SUBPROTOCOL

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Scope

ANSWER_SECONDS_MAX: Final = 10.0
BODY_BYTES_MAX: Final = 1024 * 1024
FRAMES_MAX: Final = 64

UNEQUAL_HEADERS: Final = frozenset({b"date", b"x-request-id"})
"""Of two answers to the same request these differ by their nature."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the asker sees, less what differs by its nature."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def json(self) -> Any:
        """The body's document, None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def _scope(kind: ScopeType, path: str, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": kind.value,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
        "extensions": {},
        OF_THE_WATCH: True,
    }


async def ask(
    app: ASGIApp, method: str, path: str, token: str, body: bytes | None = None, *, query: str = ""
) -> Answer:
    """The answer to one request. TimeoutError, or whatever the application raises."""
    headers = [(b"authorization", f"Bearer {token}".encode())]
    if body is not None:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = _scope(ScopeType.HTTP, path, headers) | {
        "method": method,
        "scheme": "http",
        "query_string": query.encode(),
    }
    given = False
    status = 0
    found: list[tuple[bytes, bytes]] = []
    parts = bytearray()

    async def receive() -> Any:
        nonlocal given
        if given:
            # Nobody hangs up: whoever asks for more waits until the answer is there.
            await asyncio.Event().wait()
        given = True
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            found.extend((bytes(name).lower(), bytes(value)) for name, value in message["headers"])
        elif message["type"] == "http.response.body":
            parts.extend(message.get("body", b"")[: BODY_BYTES_MAX - len(parts)])

    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        await app(cast("Scope", scope), receive, send)
    kept = tuple(sorted(header for header in found if header[0] not in UNEQUAL_HEADERS))
    return Answer(status, kept, bytes(parts))


class Session:
    """One session at `/bifrost`, by text frames. `async with` opens and ends it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._in: asyncio.Queue[Any] = asyncio.Queue(FRAMES_MAX)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Session:
        scope = _scope(ScopeType.WEBSOCKET, "/bifrost", []) | {
            "scheme": "ws",
            "subprotocols": [SUBPROTOCOL],
        }
        self._out.put_nowait({"type": "websocket.connect"})

        async def receive() -> Any:
            return await self._out.get()

        async def send(message: Any) -> None:
            await self._in.put(message)

        self._task = asyncio.create_task(
            cast("Any", self._app(cast("Scope", scope), receive, send)), name="sentinel: session"
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._out.put_nowait({"type": "websocket.disconnect", "code": 1000})
        if self._task is not None:
            _, left = await asyncio.wait({self._task}, timeout=ANSWER_SECONDS_MAX)
            for task in left:
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def say(self, **message: Any) -> None:
        """Send a control message."""
        self._out.put_nowait({"type": "websocket.receive", "text": json.dumps(message), "bytes": None})

    async def hear(self) -> dict[str, Any]:
        """The next control message, or `{"type": "closed", "code", "reason"}`. TimeoutError."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            while True:
                message = await self._in.get()
                if message["type"] == "websocket.close":
                    return {
                        "type": "closed",
                        "code": message.get("code"),
                        "reason": message.get("reason"),
                    }
                if message["type"] == "websocket.send" and message.get("text") is not None:
                    return cast("dict[str, Any]", json.loads(message["text"]))
