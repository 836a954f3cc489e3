"""What an audit event says. Pure.

Ids and numbers only: an event can never be changed or erased, so it names nobody by name and quotes nothing
that a person wrote, but for the reason of an opening, which is written for the network that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import Network

DETAIL_CHARS_MAX: Final = 2000

Detail = Mapping[str, str | int | list[str] | dict[str, int]]


class EventKind(StrEnum):
    """Everything that is audited. Each has a line in docs/audit.md."""

    OPENING_NETWORK = "opening.network"
    OPENING_REQUEST = "opening.request"
    TIER_ASSIGNED = "tier.assigned"
    OPERATOR_CREATED = "operator.created"
    OPERATOR_LOOKED = "operator.looked"
    OPERATOR_REVOKED = "operator.revoked"
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    SESSION_STOLEN = "session.stolen"
    ACCOUNT_CLOSED = "account.closed"
    MEMBER_JOINED = "member.joined"
    MEMBER_CHANGED = "member.changed"
    MEMBER_LEFT = "member.left"
    HAND_OVER_GIVEN = "handover.given"
    HAND_OVER_REVOKED = "handover.revoked"
    DEVICE_REGISTERED = "device.registered"
    DEVICE_REMOVED = "device.removed"
    PROVIDER_REGISTERED = "provider.registered"
    UNKNOWN_REFUSED = "unknown.refused"
    UNKNOWN_ALERT = "unknown.alert"
    SCOPE_CROSSED = "scope.crossed"


class ActorKind(StrEnum):
    """Who did it: a person's session, an API key, an operator, somebody at the server's console, a job."""

    USER = "user"
    KEY = "key"
    OPERATOR = "operator"
    CONSOLE = "console"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """`actor_id`: of the user, the key or the operator; None for the console and the system."""

    kind: ActorKind
    actor_id: UUID | None = None


CONSOLE: Final = Actor(ActorKind.CONSOLE)
SYSTEM: Final = Actor(ActorKind.SYSTEM)


def actor_of(scope: Network) -> Actor:
    """The API key if one made the call, else the user."""
    if scope.key_id is not None:
        return Actor(ActorKind.KEY, scope.key_id)
    return Actor(ActorKind.USER, scope.user_id)


def operator(operator_id: UUID | None) -> Actor:
    """An operator, or the console."""
    return CONSOLE if operator_id is None else Actor(ActorKind.OPERATOR, operator_id)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was done. It lies in the chain of `network_id` (`kernel.PLATFORM_NETWORK` for what is no
    network's). `subject`: what kind of thing `subject_id` is; `user_id`: whose it is, if it is one person's.
    """

    network_id: UUID
    event_id: UUID
    at: datetime
    kind: EventKind
    actor: Actor
    subject: str
    subject_id: UUID | None = None
    user_id: UUID | None = None
    detail: Detail = field(default_factory=dict)

    def detail_text(self) -> str:
        """The detail as JSON, keys sorted. InvalidInput if it is over the limit."""
        text = msgspec.json.encode(self.detail, order="sorted").decode()
        if len(text) > DETAIL_CHARS_MAX:
            raise InvalidInput(f"detail: at most {DETAIL_CHARS_MAX} characters of JSON", field="detail")
        return text
