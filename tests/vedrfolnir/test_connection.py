"""The connection over real sockets, against a relay whose every message the test chooses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.vedrfolnir.relay import Relay, relay_running
from yggdrasil import errors
from yggdrasil.vedrfolnir.address import is_loopback, server_url, socket_url
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.links import DeviceLink
from yggdrasil.wire import messages
from yggdrasil.wire.limits import PAYLOAD_BYTES_MAX, WINDOW_BYTES, CloseCode, frame_cost


class NoWait:
    """Ids whose chance is always 0: every wait of the back-off is none."""

    def uuid(self) -> Any:
        raise AssertionError("not used")

    def secret(self, length: int) -> bytes:
        return bytes(length)


async def entered(relay: Relay, connection: Connection) -> Any:
    """The greeted peer of a connection that is being entered."""
    entering = asyncio.create_task(connection.__aenter__())
    peer = await relay.greeted()
    await entering
    return peer


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


async def linked(peer: Any, connection: Connection) -> DeviceLink:
    connecting = asyncio.create_task(connection.connect("laptop", "chat"))
    request = await peer.expect(messages.Connect)
    assert (request.to, request.purpose) == ("laptop", "chat")
    await peer.send(messages.Connected(link=1, peer="laptop", path="relay", request=request.request))
    return await connecting


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


@pytest.mark.parametrize("code", [CloseCode.GOING_AWAY, CloseCode.SLOW, 1011])
async def test_a_passing_loss_is_followed_by_another_dial(code: int) -> None:
    async with relay_running() as relay:
        connection = relay.connection(ids=NoWait())
        peer = await entered(relay, connection)
        link = await linked(peer, connection)
        await peer.close(code, "later")
        with pytest.raises(errors.Unavailable, match="laptop"):
            await link.receive()
        again = await relay.greeted()
        await connection.live()
        asking = asyncio.create_task(connection.discover())
        await again.expect(messages.Discover)
        asking.cancel()
        await connection.close()


async def test_a_lost_transport_fails_what_waits_and_dials_again() -> None:
    async with relay_running() as relay:
        connection = relay.connection(ids=NoWait())
        peer = await entered(relay, connection)
        waiting = asyncio.create_task(connection.discover())
        await peer.expect(messages.Discover)
        peer.socket.transport.abort()
        with pytest.raises(errors.Unavailable):
            await waiting
        await relay.greeted()
        await connection.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CloseCode.REVOKED, errors.Unauthenticated),
        (CloseCode.REPLACED, errors.Conflict),
        (CloseCode.PROTOCOL, errors.ProtocolViolation),
    ],
)
async def test_a_final_close_is_raised_and_not_dialled_again(
    code: int, kind: type[errors.YggdrasilError]
) -> None:
    async with relay_running() as relay:
        connection = relay.connection(ids=NoWait())
        peer = await entered(relay, connection)
        await peer.close(code, "for good")
        with pytest.raises(kind):
            await connection.wait()
        with pytest.raises(kind):
            await connection.discover()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(relay._peers.get(), 0.2)
        await connection.close()


async def test_a_refused_token_is_renewed_once() -> None:
    asked: list[bool] = []

    async def token(*, renew: bool = False) -> str:
        asked.append(renew)
        return "fresh" if renew else "stale"

    async with relay_running() as relay:
        connection = relay.connection(token=token, ids=NoWait())
        entering = asyncio.create_task(connection.__aenter__())
        first = await relay.peer()
        await first.send(messages.Challenge(nonce="bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4"))
        assert (await first.expect(messages.Hello)).token == "stale"
        await first.close(CloseCode.UNAUTHENTICATED)
        second = await relay.greeted("fresh")
        await entering
        assert asked == [False, True]
        await second.close(CloseCode.UNAUTHENTICATED)  # an old session: renewed again …
        third = await relay.peer()
        await third.close(CloseCode.UNAUTHENTICATED)  # … and refused even so
        with pytest.raises(errors.Unauthenticated):
            await connection.wait()
        await connection.close()


async def test_a_drain_waits_for_open_links_then_dials_anew() -> None:
    async with relay_running() as relay:
        connection = relay.connection(ids=NoWait())
        peer = await entered(relay, connection)
        link = await linked(peer, connection)
        await peer.send(messages.Drain(reconnect_after_ms=60_000))
        await link.send(b"still")
        assert await peer.payload(1) == b"still"
        await link.close()
        await peer.expect(messages.Disconnect)
        await asyncio.wait_for(peer.ended.wait(), 10)
        assert peer.socket.close_code == 1000
        await relay.greeted()
        await connection.close()


async def test_a_server_that_breaks_the_protocol_is_left() -> None:
    async with relay_running() as relay:
        connection = relay.connection(ids=NoWait())
        peer = await entered(relay, connection)
        await peer.socket.send("{no json")
        with pytest.raises(errors.ProtocolViolation):
            await connection.wait()
        await asyncio.wait_for(peer.ended.wait(), 10)
        assert peer.socket.close_code == CloseCode.PROTOCOL
        await connection.close()


async def test_a_server_that_is_not_there_yet_is_dialled_until_it_is() -> None:
    async with relay_running() as gone:
        port = gone.port
    connection = gone.connection(ids=NoWait())
    lost = asyncio.Event()
    connection._on_state = lambda state, _: lost.set() if state == "lost" else None
    entering = asyncio.create_task(connection.__aenter__())
    await asyncio.wait_for(lost.wait(), 10)
    async with relay_running(port) as relay:
        await relay.greeted()
        await entering
        await connection.close()


async def test_entering_without_a_server_says_why() -> None:
    async with relay_running() as gone:
        pass
    connection = gone.connection()
    task = asyncio.create_task(connection.run())
    with pytest.raises(errors.Unavailable, match=r"no session within 0\.1 seconds: .*127\.0\.0\.1"):
        await connection.live(0.1)
    await connection.close()
    task.cancel()


def test_urls() -> None:
    assert server_url("https://edda.example:8443/") == "https://edda.example:8443"
    assert server_url("http://127.0.0.1:8480") == "http://127.0.0.1:8480"
    assert server_url("http://[::1]:8480") == "http://[::1]:8480"
    assert server_url("http://192.168.1.4", plaintext=True) == "http://192.168.1.4"
    assert socket_url("https://edda.example") == "wss://edda.example/bifrost"
    assert socket_url("http://localhost:1/") == "ws://localhost:1/bifrost"
    assert is_loopback("ws://127.9.9.9/")
    assert not is_loopback("http://127.0.0.1.example/")


@pytest.mark.parametrize(
    "text",
    [
        "edda.example",
        "ftp://x",
        "http://192.168.1.4",
        "https://x/path",
        "https://u@x",
        "https://x:no",
        "https://x?q=1",
    ],
)
def test_wrong_urls_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidInput, match="server: "):
        server_url(text)
