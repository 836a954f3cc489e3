"""Every move of the device's machine: what the server may say when, and what the device may do to a link."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from yggdrasil.wire import messages


class State(StrEnum):
    """Where the session stands."""

    DIALLED = "dialled"  # waits for `challenge`
    GREETED = "greeted"  # `hello` sent, waits for `welcome`
    LIVE = "live"
    CLOSED = "closed"


_LIVE_ONLY: Final = (
    messages.Devices, messages.ConnectRequest, messages.Connected, messages.Credit, messages.ActionAsked,
    messages.ActionAnswered, messages.Disconnect, messages.Ping, messages.Pong, messages.Event,
    messages.Error, messages.Drain, messages.JobOffer,
)  # fmt: skip

TRANSITIONS: Final[dict[tuple[State, type[messages.Message]], State]] = {
    (State.DIALLED, messages.Challenge): State.GREETED,
    (State.DIALLED, messages.Drain): State.DIALLED,
    (State.DIALLED, messages.Error): State.DIALLED,
    (State.GREETED, messages.Welcome): State.LIVE,
    (State.GREETED, messages.Drain): State.GREETED,
    (State.GREETED, messages.Error): State.GREETED,
    **{(State.LIVE, kind): State.LIVE for kind in _LIVE_ONLY},
}
"""All moves the server can make; any other message in a state is its fault."""


class LinkState(StrEnum):
    """Where a link stands on the device."""

    OPEN = "open"  # between two devices
    OFFERED = "offered"  # a job, not answered yet
    RUNNING = "running"  # a job, accepted
    ENDING = "ending"  # ended here; what is queued still goes out


class LinkInput(StrEnum):
    """What the device itself may do to a link."""

    SEND = "send"
    DISCONNECT = "disconnect"
    ACCEPT = "accept"
    BUSY = "busy"
    DONE = "done"
    FAULT = "fault"


LINK_TRANSITIONS: Final[dict[tuple[LinkState, LinkInput], LinkState]] = {
    (LinkState.OPEN, LinkInput.SEND): LinkState.OPEN,
    (LinkState.OPEN, LinkInput.DISCONNECT): LinkState.ENDING,
    (LinkState.OFFERED, LinkInput.ACCEPT): LinkState.RUNNING,
    (LinkState.OFFERED, LinkInput.BUSY): LinkState.ENDING,
    (LinkState.OFFERED, LinkInput.FAULT): LinkState.ENDING,
    (LinkState.RUNNING, LinkInput.SEND): LinkState.RUNNING,
    (LinkState.RUNNING, LinkInput.DONE): LinkState.ENDING,
    (LinkState.RUNNING, LinkInput.FAULT): LinkState.ENDING,
}
