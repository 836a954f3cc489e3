"""HTTP/1.1 as bytes: nothing is normalised on the way out, and all that came back is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ANSWER_SECONDS_MAX: Final = 30.0
UNEQUAL_HEADERS: Final = frozenset({b"date", b"x-request-id"})
"""Of two answers to one request these differ by their nature."""


@dataclass(frozen=True)
class Seen:
    """An answer: status (0: the connection was closed without one), headers in their order, body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class Wire:
    """One connection that is kept alive, opened again when the server closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None = None
    ) -> Seen:
        """One request, sent as it is written."""
        lines = [f"{method} {target} HTTP/1.1", f"host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        sent = "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
        kept = self._streams is not None
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            try:
                return await self._ask(method, sent)
            except (OSError, asyncio.IncompleteReadError):
                await self.close()
                if not kept:
                    return Seen(0)
            # A connection that was kept may have been closed meanwhile; a new one was not.
            try:
                return await self._ask(method, sent)
            except (OSError, asyncio.IncompleteReadError):
                await self.close()
                return Seen(0)

    async def _ask(self, method: str, sent: bytes) -> Seen:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=2**20)
        reader, writer = self._streams
        writer.write(sent)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        status = int(first.split(b" ", 2)[1])
        headers = []
        for line in lines:
            name, _, value = line.partition(b":")
            headers.append((name.strip().lower(), value.strip()))
        said = dict(headers)
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif said.get(b"transfer-encoding") == b"chunked":
            body = await _chunks(reader)
        else:
            body = await reader.readexactly(int(said.get(b"content-length", b"0")))
        if said.get(b"connection", b"").lower() == b"close":
            await self.close()
        kept = tuple(header for header in headers if header[0] not in UNEQUAL_HEADERS)
        return Seen(status, kept, body)

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readline()
    return b"".join(parts)
