"""What an attacker can do to a world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.isolation.worlds.house import Answer, Ask
from tests.isolation.worlds.people import DeviceWire
from yggdrasil.wire.limits import SUBPROTOCOL

if TYPE_CHECKING:
    from tests.isolation.worlds.pair import Side

ATTACKER = "attacker"


class Input(Protocol):
    """Something the attacker does."""

    async def do(self, side: Side) -> Answer | None: ...


@dataclass(frozen=True)
class Asking:
    """A request, to its end."""

    ask: Ask

    async def do(self, side: Side) -> Answer:
        return await side.house.ask(ATTACKER, self.ask)

    def __str__(self) -> str:
        return str(self.ask)


@dataclass(frozen=True)
class Opening:
    """A socket that says hello as this device."""

    device_id: str
    key: int
    token: str
    serves: str
    subprotocol: str = SUBPROTOCOL

    async def do(self, side: Side) -> None:
        wire = DeviceWire(
            device_id=self.device_id,
            key=side.attacker.keys[self.key],
            token=self.token,
            serves=self.serves,
            subprotocol=self.subprotocol,
        )
        side.wires.append(wire)
        side.house.dial(ATTACKER, wire)

    def __str__(self) -> str:
        return f"open socket as {self.device_id} ({self.serves}, {self.subprotocol})"


@dataclass(frozen=True)
class Saying:
    """A frame on one of its sockets."""

    socket: int
    frame: str | bytes

    async def do(self, side: Side) -> None:
        side.wires[self.socket].say(self.frame)

    def __str__(self) -> str:
        return f"socket {self.socket}: {self.frame!r}"


@dataclass(frozen=True)
class HangingUp:
    """A socket is left."""

    socket: int

    async def do(self, side: Side) -> None:
        side.wires[self.socket].hang_up()

    def __str__(self) -> str:
        return f"socket {self.socket}: hang up"


@dataclass(frozen=True)
class Waiting:
    """Time passes, with every timer on its way, or all of them late."""

    seconds: float
    at_once: bool

    async def do(self, side: Side) -> None:
        loop = side.house.loop
        await (loop.jump(self.seconds) if self.at_once else loop.pass_time(self.seconds))

    def __str__(self) -> str:
        return f"{'sleep' if self.at_once else 'wait'} {self.seconds:g} s"
