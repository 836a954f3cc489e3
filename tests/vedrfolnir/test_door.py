"""The client against the real relay behind a real Granian."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from tests.bifrost.server import NET_A, Door, device_key, device_uuid, running
from tests.vedrfolnir.test_provide import DONE, HEAD, STOP, USAGE, WORD, chunks_in, scripted
from yggdrasil import errors
from yggdrasil.bifrost.hub import Job
from yggdrasil.bifrost.protocol import Accepted, Busy, Chunks, Done, Fault
from yggdrasil.vedrfolnir.address import socket_url
from yggdrasil.vedrfolnir.backend import Backend
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.links import DeviceLink
from yggdrasil.vedrfolnir.provide import Provider


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with running() as door:
        yield door


def device(door: Door, name: str, **options: Any) -> Connection:
    async def token(*, renew: bool = False) -> str:
        return f"{NET_A}:{UUID(int=1)}"

    return Connection(
        f"http://127.0.0.1:{door.port}", name, sign=device_key(name).sign, token=token, **options
    )


async def echo(link: DeviceLink) -> None:
    async for payload in link:
        await link.send(payload)


async def yes(peer: str, purpose: str) -> bool:
    return True


async def test_two_devices_ask_allow_and_talk(door: Door) -> None:
    phone = device(door, "phone")
    phone.on_connect(yes, echo)
    async with phone, device(door, "pc") as pc:
        assert {info.device_id: info.online for info in await pc.discover()} == {
            "pc": True,
            "phone": True,
            "off": False,
        }
        link = await pc.connect("phone", "chat")
        await link.send(b"hello")
        assert await link.receive() == b"hello"
        await link.close()


async def test_megabytes_pass_a_link_both_ways_whole_and_in_order(door: Door) -> None:
    phone = device(door, "phone")
    phone.on_connect(yes, echo)
    async with phone, device(door, "pc") as pc:
        link = await pc.connect("phone", "bulk")
        frames = [bytes([number % 251]) * 60_000 for number in range(60)]

        async def pour() -> None:
            for frame in frames:
                await link.send(frame)

        async with asyncio.timeout(30):
            pouring = asyncio.create_task(pour())
            assert [await link.receive() for _ in frames] == frames
            await pouring


async def test_refusals_differ_inside_the_own_network(door: Door) -> None:
    phone = device(door, "phone")  # without a handler it denies
    async with phone, device(door, "pc") as pc:
        with pytest.raises(errors.Forbidden):
            await pc.connect("phone", "chat")
        with pytest.raises(errors.Unavailable):
            await pc.connect("off", "chat")
        with pytest.raises(errors.NotFound):
            await pc.connect("nobody", "chat")


async def test_actions_cross_the_relay(door: Door) -> None:
    phone = device(door, "phone")

    async def ring(sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"rang": arguments["times"], "for": sender}

    phone.on_action("ring", ring)
    async with phone, device(door, "pc") as pc:
        outcome = await pc.act("phone", "ring", {"times": 2})
        assert (outcome.ok, outcome.result) == (True, {"rang": 2, "for": "pc"})
        assert not (await pc.act("phone", "explode")).ok


async def test_a_revoked_device_is_out_for_good(door: Door) -> None:
    async with device(door, "pc") as pc:
        assert door.hub.revoke(device=device_uuid(NET_A, "pc")) == 1
        with pytest.raises(errors.Unauthenticated, match="revoked"):
            await asyncio.wait_for(pc.wait(), 10)


async def test_a_second_process_replaces_the_first(door: Door) -> None:
    async with device(door, "pc") as first, device(door, "pc"):
        with pytest.raises(errors.Conflict, match="another process"):
            await asyncio.wait_for(first.wait(), 10)


async def test_a_wrong_key_is_refused_for_good(door: Door) -> None:
    wrong = device(door, "pc")
    wrong._sign = device_key("phone").sign
    with pytest.raises(errors.Unauthenticated):
        await wrong.__aenter__()


async def test_a_drained_device_leaves_and_comes_back(door: Door) -> None:
    states: list[str] = []
    back = asyncio.Event()

    def on_state(state: str, detail: str) -> None:
        states.append(state)
        if state == "lost":
            back.set()

    async with device(door, "pc", on_state=on_state):
        door.hub.drain(100)
        await asyncio.wait_for(back.wait(), 10)
        await door.until("pc", False)
        assert states == ["live", "lost"]


@asynccontextmanager
async def provider(door: Door, url: str, capacity_jobs: int = 1) -> AsyncIterator[Connection]:
    backend = Backend(url)
    connection = device(door, "pc")
    connection.on_job(Provider(backend, {"m": "chat"}, capacity_jobs=capacity_jobs).handle)
    try:
        async with connection:
            yield connection
    finally:
        await backend.close()


def job(number: int, body: bytes = b"{}", deadline_ms: int = 10_000) -> Job:
    return Job(UUID(int=number), "chat", "m", body, deadline_ms)


async def test_a_job_of_the_hub_is_served(door: Door) -> None:
    body = b'{"messages": [], "pad": "' + b"x" * 200_000 + b'"}'
    async with scripted(HEAD, WORD, WORD, STOP, USAGE, DONE) as backend, provider(door, backend.url):
        link = door.hub.open_job(NET_A, device_uuid(NET_A, "pc"), job(1, body))
        async with asyncio.timeout(10):
            events = [event async for event in link]
        assert isinstance(events[0], Accepted)
        parts = [part for event in events if isinstance(event, Chunks) for part in event.parts]
        assert len(chunks_in(parts)) == 3
        assert events[-1] == Done({"prompt_tokens": 3, "completion_tokens": 2})
        assert backend.requests[0][1]["pad"] == "x" * 200_000


async def test_the_hub_hears_of_busy_faults_and_cancels(door: Door) -> None:
    where = NET_A, device_uuid(NET_A, "pc")
    async with scripted(HEAD, WORD, hold=True) as backend, provider(door, backend.url):
        first = door.hub.open_job(*where, job(1))
        events = aiter(first)
        async with asyncio.timeout(10):
            assert isinstance(await anext(events), Accepted)
            assert isinstance(await anext(events), Chunks)
            second = [event async for event in door.hub.open_job(*where, job(2))]
            assert isinstance(second[-1], Busy)
            first.cancel()
            await backend.left.wait()
            backend.hold = False
            third = [event async for event in door.hub.open_job(*where, job(3))]
        assert isinstance(third[-1], Fault)
        assert third[-1].code == "backend_broke"


async def test_a_provider_that_is_gone_is_a_lost_job(door: Door) -> None:
    async with scripted(HEAD, WORD, hold=True) as backend, provider(door, backend.url) as connection:
        link = door.hub.open_job(NET_A, device_uuid(NET_A, "pc"), job(1))
        events = aiter(link)
        async with asyncio.timeout(10):
            assert isinstance(await anext(events), Accepted)
            assert isinstance(await anext(events), Chunks)
            await connection.close()
            last = [event async for event in events][-1]
        assert isinstance(last, Fault)
        assert last.code == "lost"


async def test_a_device_comes_back_when_there_is_a_server_again() -> None:
    lost = asyncio.Event()

    def on_state(state: str, detail: str) -> None:
        if state == "lost":
            lost.set()

    async with running() as first:
        pc = device(first, "pc", on_state=on_state)
        await pc.__aenter__()
    await asyncio.wait_for(lost.wait(), 10)
    async with running() as second:
        pc._url = socket_url(f"http://127.0.0.1:{second.port}")  # the same name, another process
        await second.until("pc", True)
        assert [info.device_id for info in await pc.discover()] == ["pc", "phone", "off"]
        await pc.close()
