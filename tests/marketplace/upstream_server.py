"""An OpenAI-compatible server on loopback that behaves, or misbehaves, as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Write = Callable[[bytes], Awaitable[None]]
Answer = Callable[["FakeUpstream", dict[str, Any], Write], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def status(code: int, body: bytes = b'{"error": {"message": "the prompt was SECRET"}}') -> bytes:
    head = f"HTTP/1.1 {code} x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


def event(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return (
        b"data: "
        + json.dumps({"id": "SECRET", "model": "SECRET", "choices": choices, **more}).encode()
        + b"\n\n"
    )


async def good(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    if "input" in body:
        vectors = [{"index": i, "embedding": [0.5, -0.5]} for i, _ in enumerate(body["input"])]
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        await write(status(200, json.dumps({"data": vectors, "usage": usage}).encode()))
        return
    await write(HEAD)
    for _ in range(5):
        await write(event({"content": " word"}))
    await write(event({}, "stop"))
    await write(event(None, usage={"prompt_tokens": 9, "completion_tokens": 5}))
    await write(b"data: [DONE]\n\n")


async def failing(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(status(500))


async def busy(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(status(429))


async def garbage(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(HEAD + b"data: {not json\n\n")


async def no_http(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(b"\x00\xff\x00\xff" * 64)


async def silent(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(HEAD)
    await server.hung_up.wait()


async def half_then_silent(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(HEAD + event({"content": " half"}))
    await server.hung_up.wait()


async def half_then_gone(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(HEAD + event({"content": " half"}))


async def one_huge_event(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(HEAD + b"data: ")
    with contextlib.suppress(ConnectionError):
        while True:
            await write(b"x" * 65_536)
            server.sent_bytes += 65_536


async def endless(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(HEAD)
    with contextlib.suppress(ConnectionError):
        while True:
            part = event({"content": " word"}) * 64
            await write(part)
            server.sent_bytes += len(part)


async def huge_vectors(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    with contextlib.suppress(ConnectionError):
        await write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b'{"data": [')
        while True:
            await write(b" " * 65_536)
            server.sent_bytes += 65_536


async def reported(server: FakeUpstream, body: dict[str, Any], write: Write) -> None:
    await write(HEAD + b'data: {"error": {"message": "SECRET"}}\n\n')


@dataclass
class FakeUpstream:
    """One server. `health` is the status of its model list."""

    answer: Answer = good
    health: int = 200
    port: int = 0
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    sent_bytes: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            # A connection accepted in this turn of the loop is attached in the next: closed before that,
            # Python 3.11 forgets it open.
            for listener in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listener.fileno())
            await asyncio.sleep(0)
            self._server.close()
            self.hung_up.set()
            await self._server.wait_closed()
            self._server = None
            # Python 3.11 does not wait for the connections; one open at the loop's end is a warning.
            serving = dict(self._serving)
            for task, writer in serving.items():
                writer.transport.abort()
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)
        try:
            # Accepted just before the end, and met only now: nobody waits for it any more.
            if self._server is not None:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await self._answer(reader, writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): text for name, text in (line.split(": ", 1) for line in lines)}
        if first.startswith("GET"):
            await write(status(self.health, b'{"object": "list", "data": []}'))
            return
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append((headers, body))
        watching = asyncio.create_task(self._watch(reader))
        try:
            await self.answer(self, body, write)
        finally:
            watching.cancel()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        """The client hung up."""
        with contextlib.suppress(ConnectionError):
            await reader.read()
        self.hung_up.set()


@contextlib.asynccontextmanager
async def upstream(answer: Answer = good) -> AsyncIterator[FakeUpstream]:
    server = FakeUpstream(answer)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
