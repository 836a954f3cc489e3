"""Hostile sockets against a live server: each is cut in time and in bounded memory, and others are served."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import struct
from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import ConnectionClosed

from tests.live.house import House, person
from tests.live.sockets import closed_with, dial, is_served, knock, metric_becomes, resident_bytes
from yggdrasil.vedrfolnir.account import Account

HELLO_SECONDS_MAX = 6.0
CUT_SECONDS_MAX = 2.0
MIB = 1024 * 1024
MEMORY_BYTES_MAX = 96 * MIB


@pytest.fixture(scope="module")
async def peaceful(house: House) -> AsyncIterator[Account]:
    async with await person(house, "peaceful") as account:
        yield account


@contextlib.asynccontextmanager
async def others_are_served(house: House, peaceful: Account) -> AsyncIterator[None]:
    """A socket from before is served during and after."""
    socket = await dial(house, peaceful)
    await is_served(socket)
    yield
    await is_served(socket)
    await socket.close()
    await metric_becomes(house, "yggdrasil_sockets", 0)


async def raw(house: House) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TCP connection after the WebSocket handshake and the challenge; no library in between."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        "GET /bifrost HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: bifrost.v1\r\n\r\n".encode()
    )
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    first, length = await reader.readexactly(2)
    assert first == 0x81
    await reader.readexactly(length)  # the challenge is short
    return reader, writer


def frame(opcode: int, payload: bytes, *, final: bool = True, announced: int | None = None) -> bytes:
    """A masked client frame; `announced` lies about its length."""
    length = len(payload) if announced is None else announced
    head = bytes([opcode | (0x80 if final else 0)])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65_536:
        head += bytes([0x80 | 126]) + struct.pack(">H", length)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", length)
    return head + b"\0\0\0\0" + payload


async def end_of(reader: asyncio.StreamReader, seconds: float) -> int | None:
    """The close code, or None for a plain end; TimeoutError if the server does not end it."""
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                first, length = await reader.readexactly(2)
                if length == 126:
                    (length,) = struct.unpack(">H", await reader.readexactly(2))
                payload = await reader.readexactly(length)
                if first & 0x0F == 8:
                    return int.from_bytes(payload[:2]) if payload else None
    return None


async def test_no_hello_is_cut(house: House, peaceful: Account) -> None:
    async with others_are_served(house, peaceful):
        sockets = [await knock(house) for _ in range(50)]
        codes = await asyncio.gather(*(closed_with(socket, HELLO_SECONDS_MAX) for socket in sockets))
        assert set(codes) == {4004}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("garbage", 4500),
        ("{}", 4500),
        ('{"type": "hello"}', 4500),
        ('{"type": "ping", "id": 1}', 4501),
        (b"\0\0\0\1data", 4501),
        (b"", 4501),
        ("[" * 60_000, 4500),
        ('{"type": "hello", "token": "' + "x" * 5_000 + '"}', 4500),
        (
            json.dumps({"type": "hello", "token": "x", "device_id": "x", "proof": "A" * 86}),
            4505,
        ),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_nonsense_before_hello_is_cut(house: House, said: str | bytes, code: int) -> None:
    socket = await knock(house)
    await socket.send(said)
    seen = await closed_with(socket, CUT_SECONDS_MAX)
    assert seen is not None
    assert 4500 <= seen <= 4999
    assert seen == code


async def test_another_subprotocol_is_refused(house: House) -> None:
    with contextlib.suppress(ConnectionClosed):
        socket = await knock(house, "bifrost.v2")
        assert await closed_with(socket, CUT_SECONDS_MAX) == 4508


async def test_text_that_is_no_utf8_and_frames_that_are_none(house: House, peaceful: Account) -> None:
    async with others_are_served(house, peaceful):
        for sent in (frame(1, b"\xff\xfe"), b"\x83\x80\0\0\0\0", b"\xff" * 64, frame(9, b"x" * 126)):
            reader, writer = await raw(house)
            writer.write(sent)
            await writer.drain()
            await end_of(reader, CUT_SECONDS_MAX)
            writer.close()


async def test_fragments_of_one_byte(house: House, peaceful: Account) -> None:
    """A hello in fragments is still a hello to be refused; endless fragments end by the hello's deadline."""
    async with others_are_served(house, peaceful):
        hello = json.dumps({"type": "hello", "token": "x", "device_id": "x", "proof": "A" * 86}).encode()
        reader, writer = await raw(house)
        for number, byte in enumerate(hello):
            last = number == len(hello) - 1
            writer.write(frame(1 if number == 0 else 0, bytes([byte]), final=last))
            await writer.drain()
        assert await end_of(reader, CUT_SECONDS_MAX) == 4505
        writer.close()

        reader, writer = await raw(house)
        writer.write(frame(1, b"{", final=False))
        ending = asyncio.create_task(end_of(reader, HELLO_SECONDS_MAX))
        with contextlib.suppress(ConnectionError):
            while not ending.done():
                writer.write(frame(0, b" ", final=False))
                await writer.drain()
                await asyncio.sleep(0.001)
        await ending
        writer.close()


async def test_a_message_over_the_limit_is_cut_in_bounded_memory(house: House, peaceful: Account) -> None:
    async with others_are_served(house, peaceful):
        before = resident_bytes(house)
        for _ in range(3):
            reader, writer = await raw(house)
            ending = asyncio.create_task(end_of(reader, HELLO_SECONDS_MAX))
            with contextlib.suppress(ConnectionError):
                writer.write(frame(2, b"x" * MIB))
                await writer.drain()
            assert await ending in (4502, 1009, None)
            writer.close()
        # Announced as larger than memory, and as fragments without an end: 32 MiB each at most are sent.
        for start in (frame(2, b"", announced=2**62), frame(2, b"", final=False)):
            reader, writer = await raw(house)
            ending = asyncio.create_task(end_of(reader, HELLO_SECONDS_MAX))
            writer.write(start)
            with contextlib.suppress(ConnectionError):
                for _ in range(32):
                    writer.write(frame(0, b"x" * MIB, final=False))
                    await writer.drain()
                    if ending.done():
                        break
            await ending
            writer.close()
        assert resident_bytes(house) - before < MEMORY_BYTES_MAX


async def test_a_device_that_never_reads(house: House, peaceful: Account) -> None:
    """It asks and asks, and takes no answer: its queue is bounded, and it is cut."""
    async with others_are_served(house, peaceful), await person(house, "deaf") as deaf:
        socket = await dial(house, deaf)
        before = resident_bytes(house)
        socket.transport.pause_reading()
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(20):
                for number in range(200_000):
                    await socket.send(json.dumps({"type": "discover", "request": number + 1}))
        socket.transport.resume_reading()
        # Its own unread input may reset the connection before the close code gets through.
        assert await closed_with(socket, HELLO_SECONDS_MAX) in (4002, 4003, 1006)
        assert resident_bytes(house) - before < MEMORY_BYTES_MAX


async def test_many_sockets_of_one_device(house: House, peaceful: Account) -> None:
    """A loop of 200: each replaces the one before, so that a network holds as many sockets as devices."""
    async with others_are_served(house, peaceful), await person(house, "many") as many:
        sockets = [await dial(house, many) for _ in range(200)]
        codes = await asyncio.gather(*(closed_with(socket, CUT_SECONDS_MAX) for socket in sockets[:-1]))
        assert set(codes) == {4507}
        await is_served(sockets[-1])
        await metric_becomes(house, "yggdrasil_sockets", 2)
        await sockets[-1].close()
