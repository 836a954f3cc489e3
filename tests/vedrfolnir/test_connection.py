"""The connection over real sockets, against a relay whose every message the test chooses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.vedrfolnir.relay import entered, linked, relay_running
from yggdrasil import errors
from yggdrasil.vedrfolnir.links import DeviceLink
from yggdrasil.wire import messages
from yggdrasil.wire.limits import PAYLOAD_BYTES_MAX, WINDOW_BYTES, frame_cost


async def test_hello_proves_the_key_and_the_session_is_live() -> None:
    states: list[tuple[str, str]] = []
    async with relay_running() as relay:
        connection = relay.connection(on_state=lambda *state: states.append(state))
        peer = await entered(relay, connection)
        assert states == [("live", "s1")]
        await connection.close()
        await asyncio.wait_for(peer.ended.wait(), 10)
        assert peer.socket.close_code == 1000


async def test_discover_and_refusals() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        peer = await entered(relay, connection)
        asked = asyncio.create_task(connection.discover())
        discover = await peer.expect(messages.Discover)
        info = messages.DeviceInfo(device_id="laptop", online=True)
        await peer.send(messages.Devices(request=discover.request, devices=[info]))
        assert await asked == [info]
        for code, kind in {
            "denied": errors.Forbidden,
            "offline": errors.Unavailable,
            "timeout": errors.Timeout,
            "not_found": errors.NotFound,
            "something_new": errors.YggdrasilError,
        }.items():
            connecting = asyncio.create_task(connection.connect("laptop", "chat"))
            request = await peer.expect(messages.Connect)
            await peer.send(messages.Error(code=code, message="why", request=request.request))
            with pytest.raises(kind, match="why"):
                await connecting
        await connection.close()


async def test_a_link_carries_frames_both_ways_and_ends() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        peer = await entered(relay, connection)
        link = await linked(peer, connection)
        await link.send(b"one")
        await link.send(b"two")
        assert [await peer.payload(1), await peer.payload(1)] == [b"one", b"two"]
        await peer.data(1, b"three")
        await peer.data(1, b"four")
        await peer.send(messages.Disconnect(link=1))
        assert [payload async for payload in link] == [b"three", b"four"]
        with pytest.raises(errors.Conflict, match="closed by the peer"):
            await link.send(b"late")
        await connection.close()


async def test_close_follows_the_data() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        peer = await entered(relay, connection)
        link = await linked(peer, connection)
        for _ in range(20):
            await link.send(b"x" * 10_000)
        await link.close()
        await connection.close()
        for _ in range(20):
            assert len(await peer.payload(1)) == 10_000
        assert (await peer.expect(messages.Disconnect)).link == 1


async def test_a_sender_waits_for_credit_and_goes_on_with_it() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        peer = await entered(relay, connection)
        link = await linked(peer, connection)
        sent = 0

        async def pour() -> None:
            nonlocal sent
            for _ in range(40):
                await link.send(b"x" * PAYLOAD_BYTES_MAX)
                sent += 1

        pouring = asyncio.create_task(pour())
        window = WINDOW_BYTES // frame_cost(PAYLOAD_BYTES_MAX)
        for _ in range(window):
            await peer.payload(1)
        # The window is spent: a control message comes through, no data does.
        await peer.send(messages.Ping(id=7))
        await peer.expect(messages.Pong)
        assert not pouring.done()
        assert sent < 40
        for _ in range(40 - window):
            await peer.send(messages.Credit(link=1, bytes=frame_cost(PAYLOAD_BYTES_MAX)))
            await peer.payload(1)
        await pouring
        await connection.close()


async def test_a_reader_grants_credit_as_it_reads() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        peer = await entered(relay, connection)
        link = await linked(peer, connection)
        for _ in range(4):
            await peer.data(1, b"x" * PAYLOAD_BYTES_MAX)
        await peer.send(messages.Ping(id=1))
        await peer.expect(messages.Pong)  # nothing read yet, so no credit came before this
        assert await link.receive() == b"x" * PAYLOAD_BYTES_MAX
        assert (await peer.expect(messages.Credit)).bytes == frame_cost(PAYLOAD_BYTES_MAX)
        await connection.close()


async def test_consent_is_asked_and_the_link_is_served() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        served: list[tuple[str, str, bytes]] = []

        async def allow(peer: str, purpose: str) -> bool:
            return purpose == "chat"

        async def serve(link: DeviceLink) -> None:
            async for payload in link:
                served.append((link.peer, link.purpose, payload))
                await link.send(payload.upper())

        connection.on_connect(allow, serve)
        peer = await entered(relay, connection)
        await peer.send(messages.ConnectRequest(ask=1, sender="phone", purpose="files"))
        assert (await peer.expect(messages.Deny)).ask == 1
        await peer.send(messages.ConnectRequest(ask=2, sender="phone", purpose="chat"))
        assert (await peer.expect(messages.Allow)).ask == 2
        await peer.send(messages.Connected(link=5, peer="phone", path="relay", ask=2))
        await peer.data(5, b"hello")
        assert await peer.payload(5) == b"HELLO"
        await peer.send(messages.Disconnect(link=5), messages.Ping(id=1))
        await peer.expect(messages.Pong)
        assert served == [("phone", "chat", b"hello")]
        await connection.close()


async def test_without_a_handler_the_answer_is_no() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        peer = await entered(relay, connection)
        await peer.send(messages.ConnectRequest(ask=1, sender="phone", purpose="chat"))
        await peer.expect(messages.Deny)
        await peer.send(
            messages.ActionAsked(ask=2, sender="phone", name="lock", deadline_ms=500, idempotency_id="i")
        )
        assert not (await peer.expect(messages.ActionResult)).ok
        await peer.send(messages.JobOffer(link=1, job="j", kind="chat", model="m", bytes=0, deadline_ms=500))
        await peer.expect(messages.Busy)
        await connection.close()


async def test_actions_are_done_once_and_refusals_are_told() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        done: list[str] = []

        async def lock(sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
            if "door" not in arguments:
                raise errors.InvalidInput("door: is needed", field="door")
            done.append(sender)
            return {"locked": arguments["door"]}

        async def hang(sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        connection.on_action("lock", lock)
        connection.on_action("hang", hang)
        peer = await entered(relay, connection)

        async def ask(number: int, name: str, key: str, **arguments: Any) -> messages.ActionResult:
            await peer.send(
                messages.ActionAsked(
                    ask=number,
                    sender="phone",
                    name=name,
                    deadline_ms=200,
                    idempotency_id=key,
                    arguments=arguments,
                )
            )
            result = await peer.expect(messages.ActionResult)
            assert result.ask == number
            return result  # type: ignore[no-any-return]

        first = await ask(1, "lock", "a", door="front")
        again = await ask(2, "lock", "a", door="front")
        assert first.result == again.result == {"locked": "front"}
        assert done == ["phone"]
        refused = await ask(3, "lock", "b")
        assert (refused.ok, refused.result["code"]) == (False, "invalid_input")
        late = await ask(4, "hang", "c")
        assert (late.ok, late.result["code"]) == (False, "timeout")
        await connection.close()


async def test_a_handler_with_a_bug_is_an_internal_fault_and_the_session_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with relay_running() as relay:
        connection = relay.connection()

        async def bug(*_: Any) -> Any:
            raise ZeroDivisionError

        connection.on_action("bug", bug)
        connection.on_job(bug)
        peer = await entered(relay, connection)
        await peer.send(
            messages.ActionAsked(ask=1, sender="phone", name="bug", deadline_ms=5_000, idempotency_id="i")
        )
        assert (await peer.expect(messages.ActionResult)).result["code"] == "internal"
        await peer.send(messages.JobOffer(link=1, job="j", kind="chat", model="m", bytes=0, deadline_ms=500))
        assert (await peer.expect(messages.Fault)).code == "internal"
        await peer.send(messages.Ping(id=1))
        await peer.expect(messages.Pong)
        await connection.close()
    ours = [record for record in caplog.records if record.name.startswith("yggdrasil.vedrfolnir")]
    assert [record.exc_info is not None for record in ours] == [True, True]


async def test_an_action_of_ours_is_answered() -> None:
    async with relay_running() as relay:
        connection = relay.connection()
        peer = await entered(relay, connection)
        acting = asyncio.create_task(connection.act("lamp", "on", {"level": 3}, idempotency_id="k"))
        action = await peer.expect(messages.Action)
        assert (action.to, action.arguments, action.idempotency_id) == ("lamp", {"level": 3}, "k")
        await peer.send(messages.ActionAnswered(request=action.request, ok=True, result={"is": "on"}))
        outcome = await acting
        assert (outcome.ok, outcome.result) == (True, {"is": "on"})
        await connection.close()
