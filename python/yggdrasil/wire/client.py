"""The device's side of Bifrost v1 as a machine: frames and `now` in, events and frames out.

    client = Client(device_id="pc", token=token, sign=key.sign, now=clock.monotonic())
    for each frame of the socket    for event in client.receive(frame, now): …
    after any call                  while (frame := client.poll_transmit()) is not None: write it
    at client.next_timeout()        for event in client.on_timeout(now): …
    when the socket is gone         for event in client.closed(code, reason): …

`now` is in seconds, monotonic. `receive` raises `ProtocolViolation` when the server broke the protocol: close
the socket with its `close_code`. Every other error is the caller's own (`Conflict`, `InvalidInput`,
`LimitReached`) and changes nothing. Control overtakes data, except that what ends a link follows the data
sent on it.

A job: `JobOffer` → (`JobReady` with the body) → `accept(link)` | `busy(link, why)` → `send(link, document)`…
→ `done(link, …)` | `fault(link, …)`; `JobCancelled` may come at any moment. `accept` may be called before the
body is complete, and should be called at once: the server waits for it only a few seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

from yggdrasil.errors import Conflict, InvalidInput, ProtocolViolation
from yggdrasil.wire import limits, messages, proof
from yggdrasil.wire.check import checked, opaque
from yggdrasil.wire.events import ClientEvent, Closed, Data, JobCancelled, JobReady, Writable
from yggdrasil.wire.limits import CloseCode
from yggdrasil.wire.link import Link
from yggdrasil.wire.transitions import TRANSITIONS, LinkInput, LinkState, State

QUEUE_BYTES_MAX: Final = 1024 * 1024
DEVICES_MAX: Final = 10_000


class Client:
    """One session of one device. See the module's text for how to drive it.

    `sign`: bytes -> Ed25519 signature (64 bytes) by the device key. `queue_bytes_max`: of unsent data, per
    link.
    """

    def __init__(
        self,
        *,
        device_id: str,
        token: str,
        sign: Callable[[bytes], bytes],
        now: float,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        self.state = State.DIALLED
        self.welcome: messages.Welcome | None = None
        self.rtt_seconds: float | None = None
        self._device_id, self._token, self._sign = device_id, token, sign
        self._queue_bytes_max = queue_bytes_max
        self._control: deque[str] = deque()
        self._links: dict[int, Link] = {}
        self._turn: deque[int] = deque()  # links in the order they may send next
        self._link_seen = 0
        self._request = 0
        self._devices: dict[int, list[messages.DeviceInfo]] = {}
        self._heard_at = now
        self._ping: tuple[int, float] | None = None
        self._ping_id = 0
        self._events: list[ClientEvent] = []

    # ---- the wire --------

    def receive(self, frame: str | bytes, now: float) -> list[ClientEvent]:
        """Take one message of the socket (`str` for text, `bytes` for binary)."""
        if self.state is State.CLOSED:
            return []
        self._heard_at = now
        try:
            if isinstance(frame, str):
                self._control_in(messages.decode_to_device(frame), now)
            else:
                self._data_in(*messages.unpack(frame))
        except ProtocolViolation:
            self._end()
            raise
        return self._drain()

    def poll_transmit(self) -> str | bytes | None:
        """The next message to write to the socket, or None. Control first, then the links in turn."""
        if self._control:
            return self._control.popleft()
        for _ in range(len(self._turn)):
            number = self._turn[0]
            self._turn.rotate(-1)
            link = self._links[number]
            if not link.ready():
                continue
            frame = link.pull()
            if isinstance(frame, str):
                self._forget(number)
            elif link.was_full and not link.queue:
                link.was_full = False
                self._events.append(Writable(number))
            return frame
        return None

    def poll_event(self) -> ClientEvent | None:
        """An event that arose from sending (`Writable`), or None. Ask after writing."""
        return self._events.pop(0) if self._events else None

    def closed(self, code: int, reason: str) -> list[ClientEvent]:
        """The socket is gone, whoever closed it."""
        if self.state is State.CLOSED:
            return []
        self._end()
        return [Closed(code, reason, limits.may_reconnect(code))]

    def next_timeout(self) -> float | None:
        """When `on_timeout` wants to be called, in seconds of the caller's clock."""
        if self.state is State.CLOSED:
            return None
        if self.state is not State.LIVE:
            return self._heard_at + limits.HELLO_SECONDS + limits.PONG_SECONDS
        if self._ping is not None:
            return self._ping[1] + limits.PONG_SECONDS
        return self._heard_at + self._heartbeat_seconds()

    def on_timeout(self, now: float) -> list[ClientEvent]:
        """Time passed. A silent server gets a ping; a dead one ends the session (close the socket then)."""
        due = self.next_timeout()
        if due is None or now < due:
            return []
        if self.state is not State.LIVE or (self._ping is not None and self._heard_at < self._ping[1]):
            return self.closed(CloseCode.HEARTBEAT, "the server is silent")
        if self._ping is None:
            self.ping(now)
        else:
            self._ping = None
        return []

    # ---- requests --------

    def discover(self) -> int:
        """Ask for the devices of the own network; the event `Devices` has this number."""
        return self._ask(messages.Discover(request=self._next()))

    def connect(self, to: str, purpose: str, relay: Literal["auto", "force", "never"] = "auto") -> int:
        """Ask a device for a link; `Connected` or `Error` has this number."""
        return self._ask(messages.Connect(request=self._next(), to=to, purpose=purpose, relay=relay))

    def allow(self, ask: int) -> None:
        """Consent to a `ConnectRequest`; `Connected` with this `ask` follows."""
        self._post(messages.Allow(ask=ask))

    def deny(self, ask: int) -> None:
        """Refuse a `ConnectRequest`."""
        self._post(messages.Deny(ask=ask))

    def action(
        self, to: str, name: str, arguments: dict[str, Any], *, deadline_ms: int, idempotency_id: str
    ) -> int:
        """Ask a device to do something; `ActionAnswered` or `Error` has this number."""
        opaque("arguments", arguments)
        return self._ask(
            messages.Action(
                request=self._next(),
                to=to,
                name=name,
                deadline_ms=deadline_ms,
                idempotency_id=idempotency_id,
                arguments=arguments,
            )
        )

    def action_result(self, ask: int, ok: bool, result: dict[str, Any]) -> None:
        """Answer an `ActionAsked`."""
        opaque("result", result)
        self._post(messages.ActionResult(ask=ask, ok=ok, result=result))

    def ping(self, now: float) -> None:
        """Measure the round trip; `rtt_seconds` is set when the answer comes."""
        self._ping_id = self._ping_id % limits.NUMBER_MAX + 1
        self._post(messages.Ping(id=self._ping_id))
        self._ping = (self._ping_id, now)

    # ---- links --------

    def send(self, link: int, payload: bytes) -> None:
        """Queue a payload of 1 to `PAYLOAD_BYTES_MAX` bytes on a link (a job: one JSON document each).

        `LimitReached` when the link's queue is full: wait for `Writable`. `Conflict` when the link ended
        meanwhile or the job is not accepted yet. Nothing is sent then.
        """
        if not 1 <= len(payload) <= limits.PAYLOAD_BYTES_MAX:
            raise InvalidInput(f"payload: 1 to {limits.PAYLOAD_BYTES_MAX} bytes", field="payload")
        found = self._link(link)
        found.move(LinkInput.SEND)
        found.push(payload, self._queue_bytes_max)

    def queued_bytes(self, link: int) -> int:
        """Unsent bytes of a link; 0 for an ended one."""
        found = self._links.get(link)
        return found.queued_bytes if found is not None else 0

    def consumed(self, link: int, payload_bytes: int) -> None:
        """A `Data` payload is dealt with: its credit goes back to the sender."""
        found = self._links.get(link)
        if found is None or found.state is LinkState.ENDING:
            return
        grant = found.consumed(payload_bytes)
        if grant is not None:
            self._post(grant)

    def disconnect(self, link: int) -> None:
        """End a device link, after the data queued on it."""
        self._finish(link, LinkInput.DISCONNECT, messages.Disconnect(link=link))

    def accept(self, link: int) -> None:
        """Take an offered job."""
        self._link(link).move(LinkInput.ACCEPT)
        self._post(messages.Accept(link=link))

    def busy(self, link: int, message: str = "") -> None:
        """Refuse an offered job; the server tries elsewhere."""
        self._finish(link, LinkInput.BUSY, messages.Busy(link=link, message=message))

    def done(self, link: int, *, prompt_tokens: int, completion_tokens: int) -> None:
        """The job is complete; follows its data."""
        usage = messages.Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        self._finish(link, LinkInput.DONE, messages.Done(link=link, usage=usage))

    def fault(self, link: int, code: str, message: str = "") -> None:
        """The job failed; follows its data."""
        self._finish(link, LinkInput.FAULT, messages.Fault(link=link, code=code, message=message))

    # ---- inside --------

    def _control_in(self, message: messages.ToDevice, now: float) -> None:
        state = TRANSITIONS.get((self.state, type(message)))
        if state is None:
            name = type(message).__struct_config__.tag
            raise ProtocolViolation(
                f"no {name!r} while {self.state.value!r}", close_code=CloseCode.OUT_OF_ORDER
            )
        match message:
            case messages.Challenge():
                self._hello(message)
            case messages.Welcome():
                self.welcome = message
                self._events.append(message)
            case messages.Ping():
                self._post(messages.Pong(id=message.id))
            case messages.Pong():
                if self._ping is not None and self._ping[0] == message.id:
                    self.rtt_seconds, self._ping = now - self._ping[1], None
            case messages.Credit():
                found = self._links.get(message.link)
                if found is not None:
                    found.granted(message.bytes)
            case messages.Devices():
                self._devices_in(message)
            case messages.Connected():
                self._open(Link(message.link, LinkState.OPEN))
                self._events.append(message)
            case messages.JobOffer():
                link = Link(message.link, LinkState.OFFERED, message)
                self._open(link)
                self._events.append(message)
                self._body_done(link)
            case messages.Disconnect():
                self._disconnected(message)
            case _:
                self._events.append(message)
        self.state = state

    def _hello(self, message: messages.Challenge) -> None:
        try:
            nonce = proof.decode_bytes(message.nonce, limits.NONCE_BYTES, "nonce")
        except InvalidInput as error:
            raise ProtocolViolation(str(error), close_code=CloseCode.PROTOCOL) from error
        signature = proof.encode_bytes(self._sign(proof.hello_payload(nonce, self._token)))
        self._post(messages.Hello(token=self._token, device_id=self._device_id, proof=signature))

    def _data_in(self, number: int, payload: bytes) -> None:
        if number == 0 or number > self._link_seen:
            raise ProtocolViolation(f"data on link {number}, which never was", close_code=CloseCode.LINK)
        link = self._links.get(number)
        if link is None or link.state is LinkState.ENDING:
            return  # on its way when we ended the link
        link.received(len(payload))
        if link.offer is None:
            self._events.append(Data(number, payload))
            return
        link.body += payload
        grant = link.consumed(len(payload))
        if grant is not None:
            self._post(grant)
        self._body_done(link)

    def _body_done(self, link: Link) -> None:
        offer = link.offer
        assert offer is not None  # noqa: S101  # only jobs come here
        if link.body_complete or len(link.body) > offer.bytes:
            raise ProtocolViolation(f"job on link {link.number}: more body than announced")
        if len(link.body) == offer.bytes:
            link.body_complete = True
            self._events.append(JobReady(link.number, offer.job, offer.kind, offer.model, bytes(link.body)))
            link.body = bytearray()

    def _devices_in(self, message: messages.Devices) -> None:
        known = self._devices.setdefault(message.request, [])
        known.extend(message.devices)
        if len(known) > DEVICES_MAX or len(self._devices) > limits.FRAME_COST_BYTES_MIN:
            raise ProtocolViolation(f"devices: at most {DEVICES_MAX} in one answer")
        if not message.more:
            del self._devices[message.request]
            self._events.append(messages.Devices(request=message.request, devices=known))

    def _disconnected(self, message: messages.Disconnect) -> None:
        link = self._links.get(message.link)
        if link is None:
            return
        self._forget(message.link)
        if link.state is not LinkState.ENDING:
            self._events.append(message if link.offer is None else JobCancelled(message.link))

    def _open(self, link: Link) -> None:
        if link.number <= self._link_seen:
            raise ProtocolViolation(f"link {link.number} was used before", close_code=CloseCode.LINK)
        self._link_seen = link.number
        self._links[link.number] = link
        self._turn.append(link.number)

    def _finish(self, number: int, move: LinkInput, final: messages.Message) -> None:
        link = self._link(number)
        checked(final)
        link.move(move)
        link.final = final

    def _forget(self, number: int) -> None:
        del self._links[number]
        self._turn.remove(number)

    def _link(self, number: int) -> Link:
        link = self._links.get(number)
        if link is None:
            raise Conflict(f"link {number}: not open")
        return link

    def _next(self) -> int:
        if self._request >= limits.NUMBER_MAX:
            raise Conflict("this session has used up its request numbers; dial anew")
        return self._request + 1

    def _ask(self, message: messages.Discover | messages.Connect | messages.Action) -> int:
        self._post(message)
        self._request = message.request
        return message.request

    def _post(self, message: messages.Message) -> None:
        if self.state is State.CLOSED:
            raise Conflict("the session is closed")
        if self.state is not State.LIVE and not isinstance(message, messages.Hello):
            raise Conflict("the session is not live yet: wait for Welcome")
        self._control.append(checked(message))

    def _heartbeat_seconds(self) -> float:
        assert self.welcome is not None  # noqa: S101  # LIVE means welcomed
        return self.welcome.heartbeat_seconds + limits.PONG_SECONDS / 2

    def _drain(self) -> list[ClientEvent]:
        events, self._events = self._events, []
        return events

    def _end(self) -> None:
        self.state = State.CLOSED
        self._control.clear()
        self._links.clear()
        self._turn.clear()
        self._devices.clear()
        self._events.clear()
