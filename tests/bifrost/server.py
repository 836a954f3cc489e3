"""A server for the tests of the door: Litestar with the real endpoint and hub, on a real Granian.

Tokens are `network:user:name`; a device's key is derived from its name, so that tests need no registration.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar
from litestar.di import Provide
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from yggdrasil.bifrost.endpoint import bifrost
from yggdrasil.bifrost.hub import DeviceInfo, Hello, Hub, HubLimits, Member
from yggdrasil.bifrost.protocol import verify_hello
from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import SystemClock, SystemIds
from yggdrasil.wire.client import Client
from yggdrasil.wire.events import ClientEvent, Closed
from yggdrasil.wire.limits import SUBPROTOCOL
from yggdrasil.wire.messages import Welcome

NET_A, NET_B = UUID(int=0xA), UUID(int=0xB)


def device_key(name: str) -> Ed25519PrivateKey:
    """The key of a device of this name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def device_uuid(network: UUID, name: str) -> UUID:
    """Its internal id."""
    return UUID(bytes=hashlib.sha256(network.bytes + name.encode()).digest()[:16])


async def authenticate(hello: Hello) -> Member:
    """Judge a hello as the application would."""
    network, _, user = hello.token.partition(":")
    if not user:
        raise Unauthenticated
    verify_hello(device_key(hello.device_id).public_key().public_bytes_raw(), hello)
    network_id = UUID(network)
    return Member(network_id, UUID(user), device_uuid(network_id, hello.device_id), hello.device_id)


class Door:
    """The running server: its hub, its address, and what presence said."""

    def __init__(self, hub: Hub, port: int) -> None:
        self.hub, self.port = hub, port
        self.presence: list[tuple[str, bool]] = []
        self.changed = asyncio.Event()
        self._connections: list[ClientConnection] = []
        hub.on_presence.append(self._note)

    def _note(self, member: Member, online: bool) -> None:
        self.presence.append((member.device_id, online))
        self.changed.set()

    async def until(self, name: str, online: bool) -> None:
        """Wait for a presence."""
        async with asyncio.timeout(5):
            while (name, online) not in self.presence:
                self.changed.clear()
                await self.changed.wait()

    async def dial(self, **options: Any) -> ClientConnection:
        """A bare socket."""
        options = {"subprotocols": [SUBPROTOCOL], "compression": None} | options
        connection = await connect(f"ws://127.0.0.1:{self.port}/bifrost", **options)
        self._connections.append(connection)
        return connection

    async def hang_up(self) -> None:
        """End every socket a test dialled, without ceremony."""
        for connection in self._connections:
            connection.transport.abort()
            await connection.wait_closed()

    @asynccontextmanager
    async def device(self, name: str, network: UUID = NET_A) -> AsyncIterator[LiveDevice]:
        """A welcomed device."""
        device = LiveDevice(await self.dial(), name, network)
        try:
            await device.expect(Welcome)
            yield device
        finally:
            await device.stop()


class LiveDevice:
    """wire.Client on a real socket."""

    def __init__(self, connection: ClientConnection, name: str, network: UUID) -> None:
        clock = SystemClock()
        self._clock, self._connection = clock, connection
        self.network, self.device = network, device_uuid(network, name)
        self.client = Client(
            device_id=name,
            token=f"{network}:{UUID(int=1)}",
            sign=device_key(name).sign,
            now=clock.monotonic(),
        )
        self.frames: list[str | bytes] = []
        self._events: asyncio.Queue[ClientEvent] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in self._connection:
                self.frames.append(frame)
                for event in self.client.receive(frame, self._clock.monotonic()):
                    self._events.put_nowait(event)
                await self.flush()
        code, reason = self._connection.close_code or 1006, self._connection.close_reason or ""
        for event in self.client.closed(code, reason):
            self._events.put_nowait(event)

    async def flush(self) -> None:
        """Write what the machine has."""
        while (frame := self.client.poll_transmit()) is not None:
            await self._connection.send(frame)

    async def next(self) -> ClientEvent:
        """The next event."""
        async with asyncio.timeout(5):
            return await self._events.get()

    async def expect(self, kind: type[Any]) -> Any:
        """The next event, which must be of this kind."""
        event = await self.next()
        assert isinstance(event, kind), event
        return event

    async def closed(self) -> Closed:
        """Skip to the end of the session."""
        while not isinstance(event := await self.next(), Closed):
            pass
        return event

    async def stop(self) -> None:
        """Hang up and leave nothing running."""
        await self._connection.close()
        await asyncio.gather(self._reader, return_exceptions=True)


@asynccontextmanager
async def running(limits: HubLimits | None = None, judge: Any = authenticate) -> AsyncIterator[Door]:
    """The door on a free port; stopped without a trace."""
    names = {NET_A: ["pc", "phone", "off"], NET_B: ["spy"]}

    async def directory(member: Member) -> list[DeviceInfo]:
        return [DeviceInfo(device_id=name, kind="pc") for name in names[member.network_id]]

    hub = Hub(judge, directory, SystemClock(), SystemIds(), limits or HubLimits())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = Litestar([bifrost], dependencies={"hub": Provide(lambda: hub, sync_to_thread=False)})
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    serving = asyncio.create_task(server.serve())
    try:
        await _listening(port)
        door = Door(hub, port)
        try:
            yield door
        finally:
            await door.hang_up()
    finally:
        await hub.aclose()
        server.stop()
        await asyncio.wait_for(serving, 10)


async def _listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)  # there is no event for a port that opens
                continue
            writer.close()
            await writer.wait_closed()
            return
