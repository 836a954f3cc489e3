"""A relay's side of one socket, played by the test itself over a real WebSocket: every message is the
test's choice.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.links import DeviceLink
from yggdrasil.wire import messages, proof
from yggdrasil.wire.limits import SUBPROTOCOL, WINDOW_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
NONCE = b"n" * 32
LIMITS = messages.SessionLimits(
    message_bytes_max=65_536,
    window_bytes=WINDOW_BYTES,
    links_max=64,
    connects_max=16,
    actions_max=64,
    requests_per_second=100,
)
M = TypeVar("M", bound=messages.Message)


class Peer:
    """The relay's end of one accepted socket."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.ended = asyncio.Event()

    async def send(self, *sent: messages.Message) -> None:
        for message in sent:
            await self.socket.send(messages.encode(message))

    async def data(self, link: int, payload: bytes) -> None:
        await self.socket.send(messages.pack(link, payload))

    async def frame(self) -> str | bytes:
        async with asyncio.timeout(10):
            return await self.socket.recv()

    async def expect(self, kind: type[M]) -> M:
        frame = await self.frame()
        assert isinstance(frame, str), f"data instead of {kind.__name__}"
        message = messages.decode_to_server(frame)
        assert isinstance(message, kind), message
        return message

    async def payload(self, link: int) -> bytes:
        frame = await self.frame()
        assert isinstance(frame, bytes), frame
        number, payload = messages.unpack(frame)
        assert number == link
        return payload

    async def greet(self, token: str = "token") -> messages.Hello:
        """Challenge, check the proof, welcome."""
        await self.send(messages.Challenge(nonce=proof.encode_bytes(NONCE)))
        hello = await self.expect(messages.Hello)
        assert hello.token == token
        signature = proof.decode_bytes(hello.proof, 64, "proof")
        KEY.public_key().verify(signature, proof.hello_payload(NONCE, hello.token))
        await self.send(messages.Welcome(session="s1", heartbeat_seconds=25, limits=LIMITS))
        return hello

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)


class Relay:
    """Accepts sockets; `await relay.peer()` is the next one, not greeted yet."""

    def __init__(self) -> None:
        self.port = 0
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def peer(self) -> Peer:
        async with asyncio.timeout(10):
            return await self._peers.get()

    async def greeted(self, token: str = "token") -> Peer:
        peer = await self.peer()
        await peer.greet(token)
        return peer

    async def _accept(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        self._peers.put_nowait(peer)
        await socket.wait_closed()
        peer.ended.set()

    def connection(self, **options: Any) -> Connection:
        """A client of this relay whose token is always "token"."""

        async def token(*, renew: bool = False) -> str:
            return "token"

        url = f"http://127.0.0.1:{self.port}"
        return Connection(url, "pc", **{"sign": KEY.sign, "token": token, **options})


@asynccontextmanager
async def relay_running(port: int = 0) -> AsyncIterator[Relay]:
    relay = Relay()
    async with serve(
        relay._accept,
        "127.0.0.1",
        port,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        ping_interval=None,
        close_timeout=1,
    ) as server:
        relay.port = next(iter(server.sockets)).getsockname()[1]
        yield relay


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


async def linked(peer: Any, connection: Connection) -> DeviceLink:
    connecting = asyncio.create_task(connection.connect("laptop", "chat"))
    request = await peer.expect(messages.Connect)
    assert (request.to, request.purpose) == ("laptop", "chat")
    await peer.send(messages.Connected(link=1, peer="laptop", path="relay", request=request.request))
    return await connecting
