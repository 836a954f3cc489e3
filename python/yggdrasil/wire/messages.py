"""Every control message of Bifrost v1: a text frame holding one JSON object, told apart by `type`.

Two numbers name things that are waiting. `request` is chosen by the device, unique among its own open
requests; `ask` is chosen by the server when it asks the device something. `link` names an open link of this
session; the server chooses it, counting up from 1. Unknown fields are ignored, so that v1 can grow.

`ToServer` and `ToDevice` are the two directions. A data frame is binary: the link as 4 bytes, big-endian,
then 1 to `PAYLOAD_BYTES_MAX` bytes of payload.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from yggdrasil.errors import LimitReached, ProtocolViolation
from yggdrasil.wire import limits
from yggdrasil.wire.limits import CloseCode

Number = Annotated[int, Meta(ge=1, le=limits.NUMBER_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX)]
DeviceName = Annotated[
    str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX, pattern=r"^[A-Za-z0-9._-]+\Z")
]
Text = Annotated[str, Meta(max_length=limits.TEXT_CHARS_MAX)]
DeadlineMs = Annotated[int, Meta(ge=1, le=limits.DEADLINE_MS_MAX)]
Size = Annotated[int, Meta(ge=0, le=2**53)]


class Message(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of all control messages."""


# ---- device -> server --------


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """The answer to `challenge`. `proof`: base64url, no padding; see `wire.proof`."""

    token: Annotated[str, Meta(min_length=1, max_length=limits.TOKEN_BYTES_MAX)]
    device_id: DeviceName
    proof: Annotated[str, Meta(max_length=128)]


class Discover(Message, tag="discover", frozen=True, kw_only=True):
    """Ask for the devices of one's own network."""

    request: Number


class Connect(Message, tag="connect", frozen=True, kw_only=True):
    """Ask a device of one's own network for a link."""

    request: Number
    to: DeviceName
    purpose: Name
    relay: Literal["auto", "force", "never"] = "auto"


class Allow(Message, tag="allow", frozen=True, kw_only=True):
    """Consent to a `connect_request`."""

    ask: Number


class Deny(Message, tag="deny", frozen=True, kw_only=True):
    """Refuse a `connect_request`."""

    ask: Number


class Credit(Message, tag="credit", frozen=True, kw_only=True):
    """The receiver of a link lets its sender send `bytes` more. Both directions."""

    link: Number
    bytes: Annotated[int, Meta(ge=1, le=limits.WINDOW_BYTES)]


class Action(Message, tag="action", frozen=True, kw_only=True):
    """Ask a device of one's own network to do something. The doer drops repeats by (`from`,
    `idempotency_id`).
    """

    request: Number
    to: DeviceName
    name: Name
    deadline_ms: DeadlineMs
    idempotency_id: Name
    arguments: dict[str, Any] = {}


class ActionResult(Message, tag="action_result", frozen=True, kw_only=True):
    """The doer's answer."""

    ask: Number
    ok: bool
    result: dict[str, Any] = {}


class Disconnect(Message, tag="disconnect", frozen=True, kw_only=True):
    """The link ends. From the device it follows the data it sent; from the server to a job it cancels at
    once.
    """

    link: Number


class Ping(Message, tag="ping", frozen=True, kw_only=True):
    """Either side; `rtt_ms` is the sender's last measured round trip."""

    id: Number
    rtt_ms: Size | None = None


class Pong(Message, tag="pong", frozen=True, kw_only=True):
    """The same `id` back, at once."""

    id: Number


class Accept(Message, tag="accept", frozen=True, kw_only=True):
    """The device takes the job."""

    link: Number


class Busy(Message, tag="busy", frozen=True, kw_only=True):
    """The device cannot take the job now. The link ends."""

    link: Number
    message: Text = ""


class Usage(Struct, frozen=True, kw_only=True):
    """The device's own count of tokens."""

    prompt_tokens: Size
    completion_tokens: Size = 0


class Done(Message, tag="done", frozen=True, kw_only=True):
    """The job is complete; sent after its last data frame. The link ends."""

    link: Number
    usage: Usage


class Fault(Message, tag="fault", frozen=True, kw_only=True):
    """The job failed on the device. The link ends."""

    link: Number
    code: Name
    message: Text = ""


# ---- server -> device --------


class Challenge(Message, tag="challenge", frozen=True, kw_only=True):
    """First message of all. `nonce`: 32 bytes, base64url, no padding."""

    nonce: Annotated[str, Meta(max_length=64)]


class SessionLimits(Struct, frozen=True, kw_only=True):
    """What this server allows one session."""

    message_bytes_max: int
    window_bytes: int
    links_max: int
    connects_max: int
    actions_max: int
    requests_per_second: int


class Welcome(Message, tag="welcome", frozen=True, kw_only=True):
    """The session is live. `session` is an opaque name for support and logs."""

    session: Name
    heartbeat_seconds: Annotated[int, Meta(ge=1, le=3600)]
    limits: SessionLimits


class DeviceInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One device of one's own network, as `discover` shows it."""

    device_id: str
    name: str = ""
    kind: str = ""
    online: bool = False


class Devices(Message, tag="devices", frozen=True, kw_only=True):
    """The answer to `discover`; `more` follow in further `devices` with the same `request`."""

    request: Number
    devices: list[DeviceInfo]
    more: bool = False


class ConnectRequest(Message, tag="connect_request", frozen=True, kw_only=True, rename={"sender": "from"}):
    """A device of the own network asks for a link. Answer with `allow` or `deny`."""

    ask: Number
    sender: DeviceName
    purpose: Name


class Connected(Message, tag="connected", frozen=True, kw_only=True):
    """The link is open. `request` for the one who asked, `ask` for the one who allowed."""

    link: Number
    peer: DeviceName
    path: Literal["relay"]
    request: Number | None = None
    ask: Number | None = None


class ActionAsked(Message, tag="action", frozen=True, kw_only=True, rename={"sender": "from"}):
    """A device of the own network asks for an action. `deadline_ms` is what is left of it."""

    ask: Number
    sender: DeviceName
    name: Name
    deadline_ms: DeadlineMs
    idempotency_id: Name
    arguments: dict[str, Any] = {}


class ActionAnswered(Message, tag="action_result", frozen=True, kw_only=True):
    """What the doer answered."""

    request: Number
    ok: bool
    result: dict[str, Any] = {}


class Event(Message, tag="event", frozen=True, kw_only=True):
    """News from the server for this device."""

    name: Name
    data: dict[str, Any] = {}


class Error(Message, tag="error", frozen=True, kw_only=True):
    """A request failed; the session goes on. `code` is the same as on the other doors."""

    code: Name
    message: str
    request: Number | None = None
    ask: Number | None = None
    link: Number | None = None
    retry_after_ms: Size | None = None


class Drain(Message, tag="drain", frozen=True, kw_only=True):
    """The server is about to stop: finish what runs, dial anew at a random moment within this time."""

    reconnect_after_ms: Size


class JobOffer(Message, tag="job", frozen=True, kw_only=True):
    """A compute job on a link of its own. `bytes` of body follow as data frames."""

    link: Number
    job: Annotated[str, Meta(max_length=36)]
    kind: Name
    model: Text
    bytes: Annotated[int, Meta(ge=0, le=limits.BODY_BYTES_MAX)]
    deadline_ms: DeadlineMs


ToServer = (
    Hello | Discover | Connect | Allow | Deny | Credit | Action | ActionResult
    | Disconnect | Ping | Pong | Accept | Busy | Done | Fault
)  # fmt: skip
ToDevice = (
    Challenge | Welcome | Devices | ConnectRequest | Connected | Credit | ActionAsked | ActionAnswered
    | Disconnect | Ping | Pong | Event | Error | Drain | JobOffer
)  # fmt: skip

_encoder = msgspec.json.Encoder()
_to_server: msgspec.json.Decoder[ToServer] = msgspec.json.Decoder(ToServer)
_to_device: msgspec.json.Decoder[ToDevice] = msgspec.json.Decoder(ToDevice)


def encode(message: Message) -> str:
    """The text frame of a message."""
    return _encoder.encode(message).decode()


def refusal(error: LimitReached) -> str:
    """The text frame that says which limit is reached, before the socket is closed."""
    wait = error.retry_after_seconds
    return encode(
        Error(code=error.code, message=error.detail, retry_after_ms=None if wait is None else wait * 1000)
    )


def decode_to_device(frame: str) -> ToDevice:
    """Read a text frame from the server; `ProtocolViolation` if it is none."""
    if len(frame) > limits.MESSAGE_BYTES_MAX:
        raise ProtocolViolation(
            f"message: at most {limits.MESSAGE_BYTES_MAX} bytes", close_code=CloseCode.TOO_LARGE
        )
    try:
        return _to_device.decode(frame)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation(f"message: {error}", close_code=CloseCode.PROTOCOL) from error


def decode_to_server(frame: str) -> ToServer:
    """Read a text frame from a device; `ProtocolViolation` if it is none. For tests and tools: the relay has
    its own.
    """
    try:
        return _to_server.decode(frame)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation(f"message: {error}", close_code=CloseCode.PROTOCOL) from error


def pack(link: int, payload: bytes) -> bytes:
    """The binary frame of a payload."""
    return link.to_bytes(limits.DATA_HEADER_BYTES, "big") + payload


def unpack(frame: bytes) -> tuple[int, bytes]:
    """(link, payload) of a binary frame; `ProtocolViolation` if it has no payload or is too large."""
    if len(frame) > limits.MESSAGE_BYTES_MAX:
        raise ProtocolViolation(
            f"frame: at most {limits.MESSAGE_BYTES_MAX} bytes", close_code=CloseCode.TOO_LARGE
        )
    if len(frame) <= limits.DATA_HEADER_BYTES:
        raise ProtocolViolation("frame: a link (4 bytes) and at least 1 byte of payload")
    return int.from_bytes(frame[: limits.DATA_HEADER_BYTES], "big"), frame[limits.DATA_HEADER_BYTES :]
