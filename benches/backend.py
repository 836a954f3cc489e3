"""The backend of the gateway's measures: an OpenAI-compatible server that costs next to nothing.

`python -m benches.backend PORT`. It answers every chat with the same words, whole or as a stream that leaves
in one write, so that what is measured is the gateway and not a model. `GET /bare` bounds the load client.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

import uvloop

MODEL: Final = "bench-chat"
WORDS: Final = 16
_HEAD: Final = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": MODEL}
_USAGE: Final = {"prompt_tokens": 20, "completion_tokens": WORDS, "total_tokens": 20 + WORDS}


def _answer(kind: str, body: bytes) -> bytes:
    return (f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


def _chunk(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**_HEAD, "object": "chat.completion.chunk", "choices": [choice]}


def _whole() -> bytes:
    message = {"role": "assistant", "content": " ".join(["word"] * WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()


def _stream() -> bytes:
    chunks = [_chunk({"role": "assistant", "content": "word"}, None)]
    chunks += [_chunk({"content": " word"}, None) for _ in range(WORDS - 1)]
    chunks += [
        _chunk({}, "stop"),
        {**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE},
    ]
    events = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return events + b"data: [DONE]\n\n"


_MODELS = _answer(
    "application/json", json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
)
_CHAT = _answer("application/json", _whole())
_CHAT_STREAM = _answer("text/event-stream", _stream())
_BARE = _answer("application/json", b'{"ok":true}')


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            field = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
            whole = end + 4 + (int(field) if field else 0)
            if len(self._buffer) < whole:
                return
            body = bytes(self._buffer[end + 4 : whole])
            del self._buffer[:whole]
            self._transport.write(_choose(head, body))


def _choose(head: bytes, body: bytes) -> bytes:
    if head.startswith(b"post "):
        return _CHAT_STREAM if json.loads(body).get("stream") else _CHAT
    return _BARE if head.startswith(b"get /bare") else _MODELS


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
