"""Losing the connection: which ends are dialled again, which are final, and what waits meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from tests.vedrfolnir.relay import NoWait, entered, linked, relay_running
from yggdrasil import errors
from yggdrasil.vedrfolnir.address import is_loopback, server_url, socket_url
from yggdrasil.wire import messages
from yggdrasil.wire.limits import CloseCode


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
