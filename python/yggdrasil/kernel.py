"""What every room shares: scopes, ids, the clock, and the units of money. Standard library only.

A scope says on whose behalf the database is asked. There are five kinds and no sixth; each is a PostgreSQL
login role of its own, and `db.transaction(scope)` is the only way to a connection.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections.abc import Iterator
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

SENTINEL_NETWORKS: Final = (
    UUID("00000000-0000-0000-0000-000000000002"),
    UUID("00000000-0000-0000-0000-000000000003"),
)
"""Two of the server's own, which try all day to learn of each other. They hold no money and nobody's data."""


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


_ID_BYTES: Final = 16
_IDS_AT_ONCE: Final = 256
_random: Iterator[tuple[bytes]] = iter(())
"""Randomness of ids to come, taken from the operating system for many at once."""


def _forget_random() -> None:
    global _random  # noqa: PLW0603  a process that forked must not give the ids of the other
    _random = iter(())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_random)


class SystemIds:
    """Ids and secrets from the operating system."""

    def uuid(self) -> UUID:
        global _random  # noqa: PLW0603  see there
        found = next(_random, None)
        while found is None:
            _random = struct.iter_unpack(f"{_ID_BYTES}s", secrets.token_bytes(_ID_BYTES * _IDS_AT_ONCE))
            found = next(_random, None)
        return UUID(int=int.from_bytes(found[0], "big"), version=4)

    def secret(self, length: int) -> bytes:
        return secrets.token_bytes(length)
