"""A provider between a relay and backends: a real one in a process of its own, and ones that misbehave."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.vedrfolnir.relay import Peer, relay_running
from yggdrasil.demo.extract import CHAT_MODEL
from yggdrasil.demo.minilm import MODEL_NAME
from yggdrasil.errors import InvalidInput
from yggdrasil.vedrfolnir.backend import Backend, BackendError
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.provide import Kind, Provider, Served, together
from yggdrasil.wire import messages
from yggdrasil.wire.limits import PAYLOAD_BYTES_MAX

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def real_url() -> Iterator[str]:
    command = [sys.executable, "-m", "yggdrasil.demo.backend", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


class Scripted:
    """A backend that answers every request with the same parts; `hold` keeps the answer open after them."""

    def __init__(self, *parts: bytes, hold: bool = False) -> None:
        self.parts, self.hold = parts, hold
        self.requests: list[tuple[str, Any]] = []
        self.left = asyncio.Event()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        self.requests.append(
            (head.split()[1].decode(), json.loads(await reader.readexactly(length) or b"null"))
        )
        for part in self.parts:
            writer.write(part)
            await writer.drain()
        if self.hold:
            await reader.read()
            self.left.set()
        writer.close()


@asynccontextmanager
async def scripted(*parts: bytes, hold: bool = False) -> AsyncIterator[Scripted]:
    script = Scripted(*parts, hold=hold)
    async with await asyncio.start_server(script.answer, "127.0.0.1", 0) as server:
        script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield script


@asynccontextmanager
async def providing(
    url: str, models: dict[str, Kind], *, capacity_jobs: int = 1
) -> AsyncIterator[tuple[Peer, list[Served], Connection]]:
    """A provider for `url`, live at a relay: (the relay's end, what was served, the connection)."""
    served: list[Served] = []
    backend = Backend(url)
    provider = Provider(backend, models, capacity_jobs=capacity_jobs, on_served=served.append)
    async with relay_running() as relay:
        connection = relay.connection()
        connection.on_job(provider.handle)
        entering = asyncio.create_task(connection.__aenter__())
        peer = await relay.greeted()
        await entering
        try:
            yield peer, served, connection
        finally:
            await connection.close()
            await backend.close()


async def offer(
    peer: Peer, body: Any, *, link: int = 1, kind: str = "chat", model: str = "m", deadline_ms: int = 20_000
) -> None:
    raw = json.dumps(body).encode() if not isinstance(body, bytes) else body
    await peer.send(
        messages.JobOffer(
            link=link, job=f"job-{link}", kind=kind, model=model, bytes=len(raw), deadline_ms=deadline_ms
        )
    )
    for start in range(0, len(raw), PAYLOAD_BYTES_MAX):
        await peer.data(link, raw[start : start + PAYLOAD_BYTES_MAX])


async def finished(peer: Peer) -> tuple[list[bytes], messages.Done | messages.Fault]:
    """The documents of a job and its last word."""
    documents: list[bytes] = []
    while True:
        frame = await peer.frame()
        if isinstance(frame, bytes):
            documents.append(messages.unpack(frame)[1])
            continue
        message = messages.decode_to_server(frame)
        if isinstance(message, (messages.Done, messages.Fault)):
            return documents, message
        assert isinstance(message, (messages.Accept, messages.Credit)), message


def chunks_in(documents: list[bytes]) -> list[Any]:
    """Each frame of a chat is a chunk, or an array of chunks that came together."""
    read = [json.loads(document) for document in documents]
    return [chunk for frame in read for chunk in (frame if isinstance(frame, list) else [frame])]


async def test_a_real_chat_passes_chunk_by_chunk(real_url: str) -> None:
    async with providing(real_url, {CHAT_MODEL: "chat"}) as (peer, served, _):
        text = "Hugin is a raven. Munin is a raven too. Sleipnir has eight legs.\nWho has eight legs?"
        await offer(peer, {"messages": [{"role": "user", "content": text}]}, model=CHAT_MODEL)
        await peer.expect(messages.Accept)
        documents, last = await finished(peer)
        assert isinstance(last, messages.Done)
        chunks = chunks_in(documents)
        assert all(chunk["object"] == "chat.completion.chunk" and chunk["choices"] for chunk in chunks)
        answer = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert "Sleipnir has eight legs." in answer
        assert last.usage.prompt_tokens > 10
        assert last.usage.completion_tokens >= len(answer.split())
        assert [(one.outcome, one.job_id) for one in served] == [("done", "job-1")]


async def test_real_embeddings_are_cut_and_joined(real_url: str) -> None:
    async with providing(real_url, {MODEL_NAME: "embeddings"}) as (peer, _, _connection):
        texts = [f"text number {number}" for number in range(64)]
        await offer(peer, {"input": texts, "encoding_format": "float"}, kind="embeddings", model=MODEL_NAME)
        await peer.expect(messages.Accept)
        documents, last = await finished(peer)
        assert isinstance(last, messages.Done)
        assert len(documents) > 1
        answer = json.loads(b"".join(documents))
        assert [item["index"] for item in answer["data"]] == list(range(64))
        assert last.usage.prompt_tokens == answer["usage"]["prompt_tokens"]


async def test_our_members_win_over_the_requesters() -> None:
    async with (
        scripted(HEAD, WORD, STOP, USAGE, DONE) as backend,
        providing(backend.url, {"m": "chat"}) as (peer, *_),
    ):
        await offer(peer, {"model": "other", "stream": False, "temperature": 0.5})
        _, last = await finished(peer)
        assert isinstance(last, messages.Done)
        assert last.usage == messages.Usage(prompt_tokens=3, completion_tokens=2)
        path, sent = backend.requests[0]
        assert path == "/v1/chat/completions"
        assert sent == {
            "model": "m",
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
        }


@pytest.mark.parametrize(
    "parts",
    [
        [WORD + WORD + STOP + USAGE + DONE],
        [bytes([byte]) for byte in WORD + WORD + STOP + USAGE + DONE],
        [(WORD + WORD + STOP + USAGE + DONE).replace(b"\n", b"\r\n")],
        [bytes([byte]) for byte in (WORD + WORD + STOP + USAGE + DONE).replace(b"\n", b"\r\n")],
        [b": comment\n\nevent: x\nid: 1\n" + WORD.replace(b"data: ", b"data:") + WORD + STOP + USAGE],
    ],
    ids=["at once", "byte by byte", "CRLF", "CRLF byte by byte", "comments, no DONE"],
)
async def test_the_stream_is_read_however_it_is_cut(parts: list[bytes]) -> None:
    async with scripted(HEAD, *parts) as backend, providing(backend.url, {"m": "chat"}) as (peer, *_):
        await offer(peer, {})
        documents, last = await finished(peer)
        assert isinstance(last, messages.Done)
        assert len(chunks_in(documents)) == 3
        assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 2)


def test_what_came_together_travels_together_within_a_frame() -> None:
    documents = [b"x" * size for size in (1, PAYLOAD_BYTES_MAX - 4, 1, PAYLOAD_BYTES_MAX, 2, 3)]
    frames = list(together(documents))
    assert all(len(frame) <= PAYLOAD_BYTES_MAX for frame in frames)
    assert [frame.strip(b"[]").split(b",") for frame in frames] == [
        documents[:2],
        documents[2:3],
        documents[3:4],
        documents[4:],
    ]
    assert list(together([])) == []


async def test_a_stream_read_to_its_end_leaves_its_connection_for_the_next() -> None:
    body = WORD + STOP + DONE
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
    dialled = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        while found := await reader.readline():
            length = 0
            while found.strip():
                if found.lower().startswith(b"content-length:"):
                    length = int(found[15:])
                found = await reader.readline()
            await reader.readexactly(length)
            writer.write(head + body)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        backend = Backend(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        for _ in range(3):
            async for _part in backend.chat(b"{}", "m"):
                pass
        await backend.close()
    assert dialled == 1


async def test_a_backend_that_does_not_count_is_counted_for() -> None:
    async with (
        scripted(HEAD, WORD, WORD, STOP, DONE) as backend,
        providing(backend.url, {"m": "chat"}) as (peer, *_),
    ):
        await offer(peer, b'{"pad": "0123456789"}')
        _, last = await finished(peer)
        assert isinstance(last, messages.Done)
        assert last.usage == messages.Usage(prompt_tokens=6, completion_tokens=2)


@pytest.mark.parametrize(
    ("parts", "documents", "code"),
    [
        ([b"HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nsecret"], 0, "backend_failed"),
        ([b"HTTP/1.1 400 No\r\nContent-Length: 6\r\n\r\nsecret"], 0, "backend_refused"),
        ([b"garbage\r\n\r\n"], 0, "backend_broke"),
        ([b"HTTP/1.1 302 Go\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"], 0, "backend_failed"),
        ([CHUNKED, b"zz\r\n"], 0, "backend_broke"),
        ([CHUNKED, b"%x\r\n" % len(WORD) + WORD + b"\r\n"], 1, "backend_broke"),
        ([b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n"], 0, "backend_broke"),
        ([HEAD, b"data: {secret\n\n"], 0, "backend_garbage"),
        ([HEAD, b'data: {"choices": 7}\n\n'], 0, "backend_garbage"),
        ([HEAD, b"data: " + b"x" * 70_000 + b"\n\n"], 0, "backend_garbage"),
        ([HEAD, b"x" * 70_000], 0, "backend_garbage"),
        ([HEAD, WORD, b'data: {"error": {"message": "secret"}}\n\n'], 1, "backend_failed"),
        ([HEAD, WORD], 1, "backend_broke"),
        ([HEAD], 0, "backend_broke"),
        ([], 0, "backend_broke"),
    ],
)
async def test_a_bad_backend_is_a_typed_fault(parts: list[bytes], documents: int, code: str) -> None:
    async with scripted(*parts) as backend, providing(backend.url, {"m": "chat"}) as (peer, served, _):
        await offer(peer, {})
        passed, last = await finished(peer)
        assert isinstance(last, messages.Fault)
        assert (len(passed), last.code) == (documents, code)
        assert "secret" not in last.message
        assert served[0].outcome == code


@pytest.mark.parametrize(
    "parts", [[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"], [HEAD, b'{"data": 1}']]
)
async def test_bad_embeddings_are_a_typed_fault(parts: list[bytes]) -> None:
    async with scripted(*parts) as backend, providing(backend.url, {"m": "embeddings"}) as (peer, *_):
        await offer(peer, {"input": "x"}, kind="embeddings")
        passed, last = await finished(peer)
        assert isinstance(last, messages.Fault)
        assert (passed, last.code) == ([], "backend_garbage")


async def test_a_backend_that_is_gone_is_a_fault_before_the_first_chunk() -> None:
    async with scripted() as gone:
        pass
    async with providing(gone.url, {"m": "chat"}) as (peer, *_):
        await offer(peer, {})
        await peer.expect(messages.Accept)
        passed, last = await finished(peer)
        assert isinstance(last, messages.Fault)
        assert (passed, last.code) == ([], "backend_unreachable")


async def test_a_body_that_is_no_object_and_an_unknown_model_are_faults() -> None:
    async with scripted(HEAD) as backend, providing(backend.url, {"m": "chat"}) as (peer, *_):
        await offer(peer, b"[1]")
        assert (await finished(peer))[1].code == "invalid_input"  # type: ignore[union-attr]
        await offer(peer, {}, link=2, model="other")
        assert (await finished(peer))[1].code == "not_found"  # type: ignore[union-attr]
        await offer(peer, {}, link=3, kind="embeddings")
        assert (await finished(peer))[1].code == "not_found"  # type: ignore[union-attr]
        assert backend.requests == []


async def test_a_slow_backend_ends_at_the_deadline() -> None:
    async with (
        scripted(HEAD, WORD, hold=True) as backend,
        providing(backend.url, {"m": "chat"}) as (peer, *_),
    ):
        await offer(peer, {}, deadline_ms=300)
        passed, last = await finished(peer)
        assert isinstance(last, messages.Fault)
        assert (len(passed), last.code) == (1, "timeout")
        await asyncio.wait_for(backend.left.wait(), 10)


async def test_a_cancelled_job_ends_the_backends_work_and_frees_its_slot() -> None:
    async with (
        scripted(HEAD, WORD, hold=True) as backend,
        providing(backend.url, {"m": "chat"}) as (peer, served, _),
    ):
        await offer(peer, {})
        await peer.expect(messages.Accept)
        await peer.payload(1)
        await peer.send(messages.Disconnect(link=1))
        await asyncio.wait_for(backend.left.wait(), 10)
        backend.hold = False
        backend.parts = (HEAD, WORD, STOP, DONE)
        await offer(peer, {}, link=2)
        assert isinstance((await finished(peer))[1], messages.Done)
        assert [one.outcome for one in served] == ["cancelled", "done"]


async def test_more_jobs_than_slots_are_busy() -> None:
    async with (
        scripted(HEAD, WORD, hold=True) as backend,
        providing(backend.url, {"m": "chat"}, capacity_jobs=2) as (peer, served, _),
    ):
        for link in (1, 2):
            await offer(peer, {}, link=link)
            await peer.expect(messages.Accept)
            await peer.payload(link)
        await offer(peer, {}, link=3)
        busy = await peer.expect(messages.Busy)
        assert (busy.link, busy.message) == (3, "all 2 slots are taken")
        assert served[0].outcome == "busy"


async def test_a_lost_connection_ends_the_backends_work() -> None:
    async with (
        scripted(HEAD, WORD, hold=True) as backend,
        providing(backend.url, {"m": "chat"}) as (peer, served, _),
    ):
        await offer(peer, {})
        await peer.expect(messages.Accept)
        await peer.payload(1)
        peer.socket.transport.abort()
        await asyncio.wait_for(backend.left.wait(), 10)
        assert served[0].outcome == "cancelled"


async def test_models_are_listed_and_a_non_list_is_named(real_url: str) -> None:
    backend = Backend(real_url)
    assert await backend.models() == [MODEL_NAME, CHAT_MODEL]
    await backend.close()
    async with scripted(HEAD, b"[]") as script:
        bad = Backend(script.url)
        with pytest.raises(BackendError, match="no OpenAI model list"):
            await bad.models()
        await bad.close()


async def test_wrong_settings_are_refused() -> None:
    backend = Backend("http://127.0.0.1:1/v1/")
    assert backend.url == "http://127.0.0.1:1/v1"
    with pytest.raises(InvalidInput, match="model: at least one"):
        Provider(backend, {})
    with pytest.raises(InvalidInput, match="capacity: must be 1 to 1024"):
        Provider(backend, {"m": "chat"}, capacity_jobs=0)
    await backend.close()
