"""What the client machine reports: mostly the server's messages as they came, and a few of its own."""

from __future__ import annotations

from dataclasses import dataclass

from yggdrasil.wire.messages import (
    ActionAnswered,
    ActionAsked,
    Connected,
    ConnectRequest,
    Devices,
    Disconnect,
    Drain,
    Error,
    JobOffer,
    Welcome,
)
from yggdrasil.wire.messages import Event as Notice


@dataclass(frozen=True, slots=True)
class Data:
    """A payload on a device link. Call `Client.consumed(link, len(payload))` once it is dealt with."""

    link: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Writable:
    """The queue of this link, full before, is empty again."""

    link: int


@dataclass(frozen=True, slots=True)
class JobReady:
    """The whole body of an offered job is here."""

    link: int
    job: str
    kind: str
    model: str
    body: bytes


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """The server wants no more of this job: stop the work, send nothing more on the link."""

    link: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over and every link, job and request of it with it. `reconnect`: the rule of close
    codes.
    """

    code: int
    reason: str
    reconnect: bool


ClientEvent = (
    Welcome
    | Devices
    | ConnectRequest
    | Connected
    | Disconnect
    | ActionAsked
    | ActionAnswered
    | Notice
    | Error
    | Drain
    | JobOffer
    | Data
    | Writable
    | JobReady
    | JobCancelled
    | Closed
)
