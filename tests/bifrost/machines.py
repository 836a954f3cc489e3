"""The relay core and wire.Client back to back: no socket, no loop, time by hand, no real keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from uuid import UUID

from yggdrasil import _core
from yggdrasil.bifrost.effects import Effect, JobBatch
from yggdrasil.wire.client import Client
from yggdrasil.wire.events import ClientEvent
from yggdrasil.wire.messages import Connected, ConnectRequest

NET_A, NET_B = UUID(int=0xA), UUID(int=0xB)


def sign(payload: bytes) -> bytes:
    """Stands for Ed25519: the core never looks at proofs."""
    return payload[:32].ljust(64, b"\0")


class Device:
    """One client machine with its session, and everything it saw."""

    def __init__(self, world: World, name: str, network: UUID, device: UUID) -> None:
        self.world, self.name, self.network, self.device = world, name, network, device
        self.client = Client(device_id=name, token=f"token-{name}", sign=world.sign, now=world.now_ms / 1000)
        self.events: list[ClientEvent] = []
        self.frames: list[str | bytes] = []
        self.closed: tuple[int, str] | None = None
        self.reads = True
        self.session = -1

    def of(self, kind: type[ClientEvent]) -> list[ClientEvent]:
        """Its events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def control(self) -> list[dict[str, object]]:
        """The text frames it got, without the challenge and the welcome."""
        texts = [json.loads(frame) for frame in self.frames if isinstance(frame, str)]
        return [text for text in texts if text["type"] not in ("challenge", "welcome")]


class World:
    """A relay and its devices. `known` is the application's directory: (network, name) of all devices."""

    def __init__(self, **limits: int) -> None:
        self.core = _core.Relay(**limits)
        self.now_ms = 1_000
        self.devices: dict[int, Device] = {}
        self.known: set[tuple[UUID, str]] = set()
        self.effects: list[Effect] = []
        self.presence: list[tuple[str, bool]] = []
        self.transcript: list[tuple[str, str, str | bytes]] = []
        self.sign: Callable[[bytes], bytes] = sign
        self.refuse: int | None = None
        self.answer = True
        self._ids = 0

    def device(self, name: str, network: UUID = NET_A, *, device: UUID | None = None) -> Device:
        """Dial, say hello, be welcomed."""
        dialled = self.dial(name, network, device=device)
        self.run()
        return dialled

    def dial(self, name: str, network: UUID = NET_A, *, device: UUID | None = None) -> Device:
        """A socket whose machine has not run yet."""
        self._ids += 1
        dialled = Device(self, name, network, device or UUID(int=0xD000 + self._ids))
        self.known.add((network, name))
        session, effects = self.core.open(self.now_ms, self._ids.to_bytes(32, "big"))
        assert session >= 0, session
        dialled.session = session
        self.devices[session] = dialled
        self.apply(effects)
        return dialled

    def raw(self, device: Device, frame: str | bytes | dict[str, object]) -> None:
        """Put a frame on the wire that no honest machine would send."""
        if isinstance(frame, dict):
            frame = json.dumps(frame)
        if isinstance(frame, str):
            self.apply(self.core.receive_text(device.session, frame, self.now_ms))
        else:
            self.apply(self.core.receive_binary(device.session, frame, self.now_ms))
        self.run()

    def run(self) -> None:
        """Carry frames both ways until nothing moves."""
        moved = True
        while moved:
            moved = False
            for device in list(self.devices.values()):
                moved = self._carry(device) or moved

    def _carry(self, device: Device) -> bool:
        moved = False
        while (frame := device.client.poll_transmit()) is not None:
            moved = True
            self.transcript.append((device.name, "→", frame))
            receive: Callable[..., list[Effect]] = (
                self.core.receive_text if isinstance(frame, str) else self.core.receive_binary
            )
            self.apply(receive(device.session, frame, self.now_ms))
        while (event := device.client.poll_event()) is not None:
            device.events.append(event)
        while device.reads and (out := self.core.poll_transmit(device.session, self.now_ms)) is not None:
            moved = True
            self.transcript.append((device.name, "←", out))
            device.frames.append(out)
            device.events.extend(device.client.receive(out, self.now_ms / 1000))
        return moved

    def apply(self, effects: Iterable[Effect]) -> None:
        """Be the shell and the application."""
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case ("authenticate", int(session), str(), str(), str(), bytes()) if self.answer:
                    self.apply(self.verdict(self.devices[session]))
                case ("directory", int(session), int(ticket)) if self.answer:
                    device = self.devices[session]
                    names = sorted(name for network, name in self.known if network == device.network)
                    self.apply(
                        self.core.directory(
                            ticket, [(name, name.upper(), "pc") for name in names], self.now_ms
                        )
                    )
                case ("exists", int(session), int(ticket), str(name)) if self.answer:
                    found = (self.devices[session].network, name) in self.known
                    self.apply(self.core.exists(ticket, found, self.now_ms))
                case ("presence", int(session), bool(online)):
                    self.presence.append((self.devices[session].name, online))
                case ("close", int(session), int(code), str(reason)):
                    device = self.devices.pop(session)
                    device.closed = (code, reason)
                    device.events.extend(device.client.closed(code, reason))

    def verdict(self, device: Device) -> list[Effect]:
        """The application's answer to a hello."""
        if self.refuse is not None:
            return self.core.refused(device.session, self.refuse, self.now_ms)
        return self.core.authenticated(
            device.session,
            self.now_ms,
            network_id=device.network.bytes,
            user_id=UUID(int=device.network.int + 0x100).bytes,
            device=device.device.bytes,
            device_id=device.name,
            session_id=None,
            key_id=None,
        )

    def hang_up(self, device: Device) -> None:
        """The socket breaks."""
        self.apply(self.core.closed(device.session, self.now_ms))
        self.devices.pop(device.session, None)
        device.client.closed(1006, "")
        self.run()

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every deadline of every machine."""
        self.run()
        end_ms = self.now_ms + round(seconds * 1000)
        while True:
            due = [self.core.next_timeout()]
            due += [
                None if at is None else int(at * 1000) + 1
                for at in (device.client.next_timeout() for device in self.devices.values())
            ]
            next_ms = min((at for at in due if at is not None), default=end_ms)
            if next_ms > end_ms:
                break
            self.now_ms = max(self.now_ms, next_ms)
            self.apply(self.core.on_timeout(self.now_ms))
            for device in list(self.devices.values()):
                device.events.extend(device.client.on_timeout(self.now_ms / 1000))
            self.run()
            if next_ms == end_ms:
                break
        self.now_ms = end_ms
        self.run()

    def open_job(self, device: Device, body: bytes = b"{}", deadline_ms: int = 60_000) -> int:
        """Offer a job; its number."""
        job, effects = self.core.open_job(
            self.now_ms,
            network_id=device.network.bytes,
            device=device.device.bytes,
            job=str(UUID(int=7)),
            kind="chat",
            model="tiny",
            body=body,
            deadline_ms=deadline_ms,
        )
        assert job is not None
        self.apply(effects)
        self.run()
        return job

    def take(self, job: int) -> JobBatch | None:
        """What came for a job."""
        batch, effects = self.core.take_job(job, self.now_ms)
        self.apply(effects)
        self.run()
        return batch

    def link(self, one: Device, two: Device) -> tuple[int, int]:
        """A link between two devices: its number on either side."""
        one.client.connect(two.name, "test")
        self.run()
        asked = two.of(ConnectRequest)[-1]
        assert isinstance(asked, ConnectRequest)
        two.client.allow(asked.ask)
        self.run()
        ends = one.of(Connected)[-1], two.of(Connected)[-1]
        assert isinstance(ends[0], Connected)
        assert isinstance(ends[1], Connected)
        return ends[0].link, ends[1].link
