"""The door itself: hub and endpoint on a real Granian, spoken to by the `websockets` client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from websockets.exceptions import ConnectionClosed

from tests.bifrost.server import NET_A, NET_B, Door, LiveDevice, authenticate, device_key, running
from yggdrasil.bifrost.hub import Hello, HubLimits, Job, JobEvent, JobLink, Member
from yggdrasil.bifrost.protocol import Accepted, Busy, Chunks, Done, Fault, verify_hello
from yggdrasil.errors import Conflict, InvalidInput, LimitReached, NotFound, Unauthenticated, Unavailable
from yggdrasil.wire import proof
from yggdrasil.wire.events import Data, JobCancelled, JobReady
from yggdrasil.wire.limits import CloseCode
from yggdrasil.wire.messages import (
    Connected,
    ConnectRequest,
    Devices,
    Disconnect,
    Drain,
    Error,
    Event,
    JobOffer,
    pack,
)

BODY = bytes(range(256)) * 800  # 200 KiB


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with running() as door:
        yield door


def job(deadline_ms: int = 10_000, body: bytes = BODY) -> Job:
    return Job(UUID(int=9), "chat", "tiny", body, deadline_ms)


async def events(link: JobLink) -> list[JobEvent]:
    async with asyncio.timeout(10):
        return [event async for event in link]


async def test_subprotocol_close_codes_and_pings_pass_granian(door: Door) -> None:
    socket = await door.dial()
    assert socket.subprotocol == "bifrost.v1"
    assert json.loads(await socket.recv())["type"] == "challenge"
    await asyncio.wait_for(await socket.ping(), 5)
    await socket.send("nonsense")
    with pytest.raises(ConnectionClosed) as caught:
        await socket.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4500, "not a message of this protocol")


@pytest.mark.parametrize("offered", [None, ["bifrost.v2"]])
async def test_another_subprotocol_is_refused(door: Door, offered: list[str] | None) -> None:
    socket = await door.dial(subprotocols=offered)
    with pytest.raises(ConnectionClosed) as caught:
        await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == CloseCode.SUBPROTOCOL
    assert door.hub.counts() == (0, 0)


@pytest.mark.parametrize("frame", ["x" * 65_537, bytes(65_537), "ä" * 40_000])
async def test_an_oversized_message_is_refused(door: Door, frame: str | bytes) -> None:
    socket = await door.dial()
    await socket.recv()
    await socket.send(frame)
    with pytest.raises(ConnectionClosed) as caught:
        await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == CloseCode.TOO_LARGE


async def test_no_hello_is_closed_in_time() -> None:
    async with running(HubLimits(hello_ms=100)) as door:
        socket = await door.dial()
        await socket.recv()
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == CloseCode.HELLO_TIMEOUT


async def test_a_proof_by_another_key_or_for_another_nonce_is_refused(door: Door) -> None:
    for key, twist in ((device_key("phone"), b""), (device_key("pc"), b"x" * 32)):
        socket = await door.dial()
        nonce = json.loads(await socket.recv())["nonce"]
        raw = twist or proof.decode_bytes(nonce, 32, "nonce")
        token = f"{NET_A}:{UUID(int=1)}"
        signature = proof.encode_bytes(key.sign(proof.hello_payload(raw, token)))
        hello = {"type": "hello", "token": token, "device_id": "pc", "proof": signature}
        await socket.send(json.dumps(hello))
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == CloseCode.UNAUTHENTICATED
    assert door.presence == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unavailable(), CloseCode.UNAVAILABLE), (ZeroDivisionError(), CloseCode.INTERNAL)],
)
async def test_a_verdict_that_fails_is_not_final(error: Exception, code: CloseCode) -> None:
    async def judge(hello: Hello) -> Member:
        raise error

    async with running(judge=judge) as door:
        socket = await door.dial()
        await socket.recv()
        await socket.send(json.dumps({"type": "hello", "token": "t", "device_id": "pc", "proof": ""}))
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code


async def test_two_devices_meet_and_talk(door: Door) -> None:
    async with door.device("pc") as pc, door.device("phone") as phone:
        pc.client.discover()
        await pc.flush()
        listed = (await pc.expect(Devices)).devices
        online = {device.device_id: device.online for device in listed}
        assert online == {"pc": True, "phone": True, "off": False}
        pc.client.connect("phone", "files")
        await pc.flush()
        phone.client.allow((await phone.expect(ConnectRequest)).ask)
        await phone.flush()
        mine, theirs = await pc.expect(Connected), await phone.expect(Connected)
        pc.client.send(mine.link, BODY[:60_000])
        pc.client.disconnect(mine.link)
        await pc.flush()
        assert await phone.next() == Data(theirs.link, BODY[:60_000])
        assert await phone.next() == Disconnect(link=theirs.link)
    await door.until("pc", False)
    await door.until("phone", False)


async def test_probes_across_the_border_are_the_same_bytes(door: Door) -> None:
    answers: dict[str, list[str | bytes]] = {}
    async with door.device("spy", NET_B):
        for target in ("spy", "nix", "off"):
            async with door.device("pc") as pc:
                start = len(pc.frames)
                pc.client.connect(target, "x")
                await pc.flush()
                await pc.expect(Error)
                answers[target] = pc.frames[start:]
    assert answers["spy"] == answers["nix"]
    assert answers["off"] != answers["nix"], "the comparison must be able to see a difference"


async def test_a_job_of_200_kib_both_ways(door: Door) -> None:
    async with door.device("pc") as pc:
        link = door.hub.open_job(NET_A, pc.device, job())
        collected = asyncio.create_task(events(link))
        offer = await pc.expect(JobOffer)
        ready = await pc.expect(JobReady)
        assert ready.body == BODY
        pc.client.accept(offer.link)
        for start in range(0, 4 * len(BODY), 50_000):
            pc.client.send(offer.link, (4 * BODY)[start : start + 50_000])
        pc.client.done(offer.link, prompt_tokens=5, completion_tokens=7)
        await pc.flush()
        got = await collected
        assert got[0] == Accepted()
        assert got[-1] == Done({"prompt_tokens": 5, "completion_tokens": 7})
        parts = [part for event in got if isinstance(event, Chunks) for part in event.parts]
        assert b"".join(parts) == 4 * BODY
        assert [len(part) for part in parts[:2]] == [50_000, 50_000], "frames keep their borders"
        assert door.hub.counts() == (1, 0)


async def test_a_job_refused_failed_lost_and_overdue(door: Door) -> None:
    async with door.device("pc") as pc:
        link = door.hub.open_job(NET_A, pc.device, job())
        pc.client.busy((await pc.expect(JobOffer)).link, "full")
        await pc.flush()
        assert await events(link) == [Busy("full")]
    async with door.device("phone") as pc:
        link = door.hub.open_job(NET_A, pc.device, job(body=b""))
        pc.client.fault((await pc.expect(JobOffer)).link, "model", "broke")
        await pc.flush()
        assert await events(link) == [Fault("model", "broke")]
        await pc.expect(JobReady)
        link = door.hub.open_job(NET_A, pc.device, job(deadline_ms=50, body=b""))
        assert await events(link) == [Fault("timeout", "the device did not accept in time")]
        link = door.hub.open_job(NET_A, pc.device, job())
    assert await events(link) == [Fault("lost", "the device's socket is gone")]
    with pytest.raises(NotFound):
        door.hub.open_job(NET_A, pc.device, job())


async def test_leaving_a_job_early_tells_the_device(door: Door) -> None:
    async with door.device("pc") as pc:
        link = door.hub.open_job(NET_A, pc.device, job(body=b"{}"))
        offer = await pc.expect(JobOffer)
        await pc.expect(JobReady)
        pc.client.accept(offer.link)
        pc.client.send(offer.link, b"{}")
        await pc.flush()
        async with contextlib.aclosing(aiter(link)) as stream:
            async for event in stream:
                if isinstance(event, Chunks):
                    break
        assert await pc.next() == JobCancelled(offer.link)
        link.cancel()
        with pytest.raises(Conflict):
            aiter(link)
        waiting = door.hub.open_job(NET_A, pc.device, job(body=b"{}"))
        task = asyncio.create_task(events(waiting))
        second = await pc.expect(JobOffer)
        await pc.expect(JobReady)
        task.cancel()
        assert await pc.next() == JobCancelled(second.link)
        assert door.hub.counts() == (1, 0)


async def test_a_job_that_breaks_a_limit_changes_nothing(door: Door) -> None:
    async with door.device("pc") as pc:
        with pytest.raises(InvalidInput) as caught:
            door.hub.open_job(NET_A, pc.device, job(deadline_ms=0))
        assert caught.value.field == "deadline_ms"
        assert door.hub.counts() == (1, 0)


async def test_nobody_opens_a_job_across_the_border(door: Door) -> None:
    async with door.device("pc") as pc:
        with pytest.raises(NotFound):
            door.hub.open_job(NET_B, pc.device, job())
        assert door.hub.online(NET_A, pc.device)
        assert not door.hub.online(NET_B, pc.device)


async def test_revocation_closes_at_once(door: Door) -> None:
    async with door.device("pc") as pc, door.device("phone") as phone:
        assert door.hub.revoke(device=pc.device) == 1
        async with asyncio.timeout(1):
            closed = await pc.closed()
        assert (closed.code, closed.reconnect) == (CloseCode.REVOKED, False)
        assert door.hub.event(NET_A, phone.device, "news", {"n": 1})
        assert await phone.next() == Event(name="news", data={"n": 1})
        assert not door.hub.event(NET_A, pc.device, "news", {})
        assert door.hub.revoke() == 0


async def test_drain_tells_and_closes(door: Door) -> None:
    async with door.device("pc") as pc:
        door.hub.drain(200)
        assert await pc.next() == Drain(reconnect_after_ms=200)
        socket = await door.dial()
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == CloseCode.GOING_AWAY
        closed = await pc.closed()
        assert (closed.code, closed.reconnect) == (CloseCode.GOING_AWAY, True)
        assert door.hub.counts() == (0, 0)


async def test_a_slow_reader_is_bounded_and_cut_and_its_neighbour_is_not() -> None:
    # Long enough that a pause of a busy machine, while the links are made, is no stall.
    async with (
        running(HubLimits(stall_ms=1_500, data_bytes_max=1024 * 1024)) as door,
        door.device("pc") as pc,
    ):
        slow = await door.dial(max_queue=1)
        nonce = proof.decode_bytes(json.loads(await slow.recv())["nonce"], 32, "nonce")
        token = f"{NET_A}:{UUID(int=1)}"
        signature = proof.encode_bytes(device_key("phone").sign(proof.hello_payload(nonce, token)))
        hello = {"type": "hello", "token": token, "device_id": "phone", "proof": signature}
        await slow.send(json.dumps(hello))
        await door.until("phone", True)
        links = []
        for ask in range(1, 41):
            pc.client.connect("phone", "x")
            await pc.flush()
            await slow.send(json.dumps({"type": "allow", "ask": ask}))
            links.append((await pc.expect(Connected)).link)
        for link in links:  # 10 MiB: more than the kernel's buffers and ours together
            for _ in range(4):
                pc.client.send(link, bytes(65_532))
        await pc.flush()
        await door.until("phone", False)
        pc.client.discover()
        await pc.flush()
        while not isinstance(event := await pc.next(), Devices):
            assert isinstance(event, Disconnect)
        assert door.hub.counts() == (1, 0)


async def test_nothing_is_left_running() -> None:
    before = asyncio.all_tasks()
    async with running() as door:
        for _ in range(3):
            async with door.device("pc") as pc:
                door.hub.open_job(NET_A, pc.device, job())
        for _ in range(3):
            socket = await door.dial()
            await socket.recv()
            socket.transport.abort()
        async with door.device("phone") as phone:
            door.hub.revoke(network_id=NET_A)
            await phone.closed()
    assert door.hub.counts()[0] == 0
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert not left, left


async def test_data_on_a_link_of_another_session_goes_nowhere(door: Door) -> None:
    async with door.device("pc") as pc, door.device("phone") as phone, door.device("spy", NET_B) as spy:
        pc.client.connect("phone", "x")
        await pc.flush()
        phone.client.allow((await phone.expect(ConnectRequest)).ask)
        await phone.flush()
        await pc.expect(Connected)
        await phone.expect(Connected)
        await spy._connection.send(pack(1, b"intruder"))
        assert (await spy.closed()).code == CloseCode.LINK
        assert phone.client.state == pc.client.state == "live"


def test_the_proof_covers_token_nonce_and_key() -> None:
    key, nonce = device_key("pc"), bytes(32)
    public = key.public_key().public_bytes_raw()
    good = proof.encode_bytes(key.sign(proof.hello_payload(nonce, "token")))
    verify_hello(public, Hello("token", "pc", good, nonce))
    other = device_key("phone").public_key().public_bytes_raw()
    for public_key, hello in (
        (other, Hello("token", "pc", good, nonce)),
        (public, Hello("other", "pc", good, nonce)),
        (public, Hello("token", "pc", good, b"\1" * 32)),
        (public, Hello("token", "pc", good[:-1], nonce)),
        (public, Hello("token", "pc", "ä", nonce)),
        (b"short", Hello("token", "pc", good, nonce)),
    ):
        with pytest.raises(Unauthenticated):
            verify_hello(public_key, hello)


async def test_the_test_server_judges(door: Door) -> None:
    """The control of all the tests above: its own verdict refuses a token that is none."""
    with pytest.raises(Unauthenticated):
        await authenticate(Hello("none", "pc", "", bytes(32)))


async def test_a_hello_that_reaches_a_limit_is_told_and_may_come_again() -> None:
    async def judge(hello: Hello) -> Member:
        member = await authenticate(hello)
        if member.network_id == NET_A:
            raise LimitReached("At most 2 sockets of one network; 2 are open", retry_after_seconds=10)
        return member

    async with running(judge=judge) as door:
        device = LiveDevice(await door.dial(), "pc", NET_A)
        # The client's own machine takes it for what it is.
        told = await device.expect(Error)
        assert (told.code, told.retry_after_ms) == ("limit_reached", 10_000)
        closed = await device.closed()
        assert (closed.code, closed.reconnect) == (CloseCode.FULL, True)
        await device.stop()
        async with door.device("spy", NET_B):
            pass
