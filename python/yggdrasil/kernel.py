"""What every room shares: scopes, ids, the clock, and the units of money. Standard library only.

A scope says on whose behalf the database is asked. There are five kinds and no sixth; each is a PostgreSQL
login role of its own, and `db.transaction(scope)` is the only way to a connection.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

MICROCENTS_PER_CENT: Final = 1_000_000
MICROCENTS_MAX: Final = 2**63 - 1
BASIS_POINTS: Final = 10_000
CURRENCY: Final = "EUR"

PLATFORM_NETWORK: Final = UUID("00000000-0000-0000-0000-000000000001")
"""The platform is a network like any other, with a fixed id."""


class Role(StrEnum):
    """What a member may do in a network; each includes those after it."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    GUEST = "guest"


@dataclass(frozen=True, slots=True)
class Network:
    """One user in one network; made by authentication alone.

    `device_id` is the internal id of the device, `key_id` that of the API key, if one made the call;
    `key_models` are the only models that key may ask for (None: all).
    """

    network_id: UUID
    user_id: UUID
    role: Role = Role.OWNER
    device_id: UUID | None = None
    key_id: UUID | None = None
    session_id: UUID | None = None
    key_models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Login, refresh and key lookup. `network_id` is the one a key or token claims, checked under it."""

    network_id: UUID | None = None
    user_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Market:
    """The router: reads all offers."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The ledger poster: the rows of at most three networks."""

    networks: tuple[UUID, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.networks) <= 3:
            raise ValueError("Settle: networks must be 1 to 3")


@dataclass(frozen=True, slots=True)
class System:
    """A background job by name; reads, and writes only what the grants of the job's tables list. Audited."""

    job: str


Scope = Network | Identity | Market | Settle | System


class Clock(Protocol):
    """The only source of time outside the database."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class IdSource(Protocol):
    """The only source of ids and secrets."""

    def uuid(self) -> UUID:
        """128 bits with 122 of them random (RFC 9562, version 4): tells nothing about time or order."""
        ...

    def secret(self, length: int) -> bytes:
        """`length` random bytes fit for keys and nonces."""
        ...


class SystemIds:
    """Ids and secrets from the operating system."""

    def uuid(self) -> UUID:
        raw = bytearray(secrets.token_bytes(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return UUID(bytes=bytes(raw))

    def secret(self, length: int) -> bytes:
        return secrets.token_bytes(length)
