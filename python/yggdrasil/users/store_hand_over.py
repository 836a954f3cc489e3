"""All SQL of hand-overs. Asks are Identity's, for nobody is known yet; what was given is the network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from yggdrasil.db import Tx

_OPEN: Final = "used_at IS NULL AND expires_at >"
_ASK: Final = (
    "flow, address_key, device_key, sealing_key, code_digest, created_at, approved_user, approved_network,"
    " approved_session, approved_device"
)
_HAND_OVER: Final = (
    "hand_over_id, user_id, session_id, device_key, device_name, proven_by, approved_by, asked_at, given_at,"
    " ends_at, revoked_at, revoked_by"
)
_END_OLDEST: Final = """
UPDATE identity.sessions SET revoked_at = $2, revoked_for = 'limit' WHERE session_id IN (
    SELECT session_id FROM identity.sessions
    WHERE user_id = $1 AND ends_at IS NOT NULL AND revoked_at IS NULL AND expires_at > $2
    ORDER BY created_at DESC, session_id OFFSET $3)
RETURNING session_id
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """A device that asks. The `approved_…` are set once a device at home has said yes."""

    flow: UUID
    address_key: bytes = field(repr=False)
    device_key: bytes = field(repr=False)
    sealing_key: bytes = field(repr=False)
    code_digest: bytes = field(repr=False)
    created_at: datetime
    approved_user: UUID | None = None
    approved_network: UUID | None = None
    approved_session: UUID | None = None
    approved_device: UUID | None = None


@dataclass(frozen=True, slots=True)
class HandOver:
    """What was handed over, as its person and the network's owners may see it."""

    hand_over_id: UUID
    user_id: UUID
    session_id: UUID
    device_key: bytes = field(repr=False)
    device_name: str
    proven_by: str
    approved_by: UUID | None
    asked_at: datetime
    given_at: datetime
    ends_at: datetime
    revoked_at: datetime | None = None
    revoked_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that has not ended."""

    session_id: UUID
    device_key: bytes = field(repr=False)
    device_id: UUID | None
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    ends_at: datetime | None


# Asks: Identity()


async def insert_ask(tx: Tx, ask: Ask, expires_at: datetime) -> None:
    await tx.execute(
        "INSERT INTO identity.hand_over_asks (flow, address_key, device_key, sealing_key, code_digest, tries,"
        " created_at, expires_at) VALUES ($1, $2, $3, $4, $5, 0, $6, $7)",
        ask.flow,
        ask.address_key,
        ask.device_key,
        ask.sealing_key,
        ask.code_digest,
        ask.created_at,
        expires_at,
    )


async def take_try(tx: Tx, flow: UUID, device_key: bytes, tries_max: int, now: datetime) -> Ask | None:
    """Spend one try of an open ask of this device and lock it. None: no try was left or open."""
    row = await tx.fetchrow(
        "UPDATE identity.hand_over_asks SET tries = tries + 1"  # noqa: S608  own constants only
        f" WHERE flow = $1 AND device_key = $2 AND tries < $3 AND {_OPEN} $4 RETURNING {_ASK}",
        flow,
        device_key,
        tries_max,
        now,
    )
    return None if row is None else Ask(**dict(row))


async def use_ask(tx: Tx, flow: UUID, now: datetime) -> None:
    await tx.execute("UPDATE identity.hand_over_asks SET used_at = $2 WHERE flow = $1", flow, now)


async def use_approved(tx: Tx, flow: UUID, device_key: bytes, now: datetime) -> Ask | None:
    """Spend an ask that was approved: of callers who race, one gets it."""
    row = await tx.fetchrow(
        "UPDATE identity.hand_over_asks SET used_at = $3"  # noqa: S608  own constants only
        f" WHERE flow = $1 AND device_key = $2 AND approved_user IS NOT NULL AND {_OPEN} $3 RETURNING {_ASK}",
        flow,
        device_key,
        now,
    )
    return None if row is None else Ask(**dict(row))


async def is_waiting(tx: Tx, flow: UUID, device_key: bytes, tries_max: int, now: datetime) -> bool:
    """Whether the device's ask is open, and nobody has said anything yet."""
    found = await tx.fetchval(
        "SELECT true FROM identity.hand_over_asks"  # noqa: S608  own constants only
        f" WHERE flow = $1 AND device_key = $2 AND tries < $3 AND approved_user IS NULL AND {_OPEN} $4",
        flow,
        device_key,
        tries_max,
        now,
    )
    return found is not None


async def asks_of_address(
    tx: Tx, address_key: bytes, tries_max: int, now: datetime, limit: int
) -> list[dict[str, Any]]:
    """Open asks in the name of an address, newest first."""
    rows = await tx.fetch(
        "SELECT flow, device_key, created_at, expires_at, approved_user IS NOT NULL AS approved"  # noqa: S608
        f" FROM identity.hand_over_asks WHERE address_key = $1 AND tries < $2 AND {_OPEN} $3"
        " ORDER BY created_at DESC, flow LIMIT $4",
        address_key,
        tries_max,
        now,
        limit,
    )
    return [dict(row) for row in rows]


async def take_try_at_home(
    tx: Tx, flow: UUID, address_key: bytes, tries_max: int, now: datetime
) -> Ask | None:
    """Spend one try of an open ask in the name of an address and lock it: a number typed wrong counts too."""
    row = await tx.fetchrow(
        "UPDATE identity.hand_over_asks SET tries = tries + 1"  # noqa: S608  own constants only
        " WHERE flow = $1 AND address_key = $2 AND tries < $3 AND approved_user IS NULL"
        f" AND {_OPEN} $4 RETURNING {_ASK}",
        flow,
        address_key,
        tries_max,
        now,
    )
    return None if row is None else Ask(**dict(row))


async def approve(
    tx: Tx, flow: UUID, user_id: UUID, network_id: UUID, session_id: UUID, device: UUID
) -> None:
    """The try that found the right number is given back."""
    await tx.execute(
        "UPDATE identity.hand_over_asks SET tries = tries - 1, approved_user = $2, approved_network = $3,"
        " approved_session = $4, approved_device = $5 WHERE flow = $1",
        flow,
        user_id,
        network_id,
        session_id,
        device,
    )


async def deny(tx: Tx, flow: UUID, address_key: bytes, now: datetime) -> bool:
    status = await tx.execute(
        "UPDATE identity.hand_over_asks SET used_at = $3"  # noqa: S608  own constants only
        f" WHERE flow = $1 AND address_key = $2 AND {_OPEN} $3",
        flow,
        address_key,
        now,
    )
    return status.endswith(" 1")


async def delete_expired_asks(tx: Tx, now: datetime) -> None:
    await tx.execute("DELETE FROM identity.hand_over_asks WHERE expires_at <= $1", now)


# What was handed over


async def insert_hand_over(tx: Tx, network_id: UUID, made: HandOver) -> None:
    """Under Identity(network, user), beside its session."""
    await tx.execute(
        "INSERT INTO tenant.hand_overs (network_id, hand_over_id, user_id, session_id, device_key,"
        " device_name, proven_by, approved_by, asked_at, given_at, ends_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        network_id,
        made.hand_over_id,
        made.user_id,
        made.session_id,
        made.device_key,
        made.device_name,
        made.proven_by,
        made.approved_by,
        made.asked_at,
        made.given_at,
        made.ends_at,
    )


async def select_hand_overs(tx: Tx, network_id: UUID, before: UUID | None, limit: int) -> list[HandOver]:
    """Newest first, from the one behind `before` on; under Network, those its caller may see."""
    rows = await tx.fetch(
        f"SELECT {_HAND_OVER} FROM tenant.hand_overs"  # noqa: S608  own constants only
        " WHERE network_id = $1 AND ($2::uuid IS NULL OR (given_at, hand_over_id) < ("
        " SELECT p.given_at, p.hand_over_id FROM tenant.hand_overs p"
        " WHERE p.network_id = $1 AND p.hand_over_id = $2))"
        " ORDER BY given_at DESC, hand_over_id DESC LIMIT $3",
        network_id,
        before,
        limit,
    )
    return [HandOver(**dict(row)) for row in rows]


async def select_hand_over(tx: Tx, network_id: UUID, hand_over_id: UUID) -> HandOver | None:
    """Under Network, if its caller may see it."""
    row = await tx.fetchrow(
        f"SELECT {_HAND_OVER} FROM tenant.hand_overs"  # noqa: S608  own constants only
        " WHERE network_id = $1 AND hand_over_id = $2",
        network_id,
        hand_over_id,
    )
    return None if row is None else HandOver(**dict(row))


async def revoke_hand_over(
    tx: Tx, network_id: UUID, hand_over_id: UUID, user_id: UUID, now: datetime
) -> bool:
    """The first revocation stays; False for a later one."""
    status = await tx.execute(
        "UPDATE tenant.hand_overs SET revoked_at = $3, revoked_by = $4"
        " WHERE network_id = $1 AND hand_over_id = $2 AND revoked_at IS NULL",
        network_id,
        hand_over_id,
        now,
        user_id,
    )
    return status.endswith(" 1")


async def delete_of_user(tx: Tx, user_id: UUID) -> None:
    """Under Identity(user): a person is erased."""
    await tx.execute("DELETE FROM tenant.hand_overs WHERE user_id = $1", user_id)


async def delete_old_hand_overs(tx: Tx, ended_before: datetime) -> None:
    """System("session-retention")."""
    await tx.execute("DELETE FROM tenant.hand_overs WHERE ends_at < $1", ended_before)


async def select_owners(tx: Tx, network_id: UUID, limit: int) -> list[UUID]:
    """Under Identity(network, user)."""
    rows = await tx.fetch(
        "SELECT user_id FROM identity.memberships WHERE network_id = $1 AND role = 'owner'"
        " ORDER BY created_at, user_id LIMIT $2",
        network_id,
        limit,
    )
    return [row["user_id"] for row in rows]


async def device_of_key(tx: Tx, network_id: UUID, user_id: UUID, device_key: bytes) -> UUID | None:
    """The user's device in this network that has this key, if it is registered there; under Network."""
    device: UUID | None = await tx.fetchval(
        "SELECT id FROM tenant.devices WHERE network_id = $1 AND user_id = $2 AND device_key = $3"
        " ORDER BY registered_at, id LIMIT 1",
        network_id,
        user_id,
        device_key,
    )
    return device


# Sessions: Identity(user)


async def end_oldest(tx: Tx, user_id: UUID, now: datetime, keep: int) -> list[UUID]:
    """Of the sessions that were handed over, end the oldest above `keep`; which they were."""
    return [row["session_id"] for row in await tx.fetch(_END_OLDEST, user_id, now, keep)]


@dataclass(frozen=True, slots=True)
class SessionStanding:
    """A session, whether or not it has ended."""

    device_key: bytes = field(repr=False)
    expires_at: datetime
    revoked_at: datetime | None
    ends_at: datetime | None


async def session_at(tx: Tx, session_id: UUID) -> SessionStanding | None:
    row = await tx.fetchrow(
        "SELECT device_key, expires_at, revoked_at, ends_at FROM identity.sessions WHERE session_id = $1",
        session_id,
    )
    return None if row is None else SessionStanding(**dict(row))


async def live_session(tx: Tx, session_id: UUID, now: datetime) -> LiveSession | None:
    row = await tx.fetchrow(
        "SELECT session_id, device_key, device_id, created_at, refreshed_at, expires_at, ends_at"
        " FROM identity.sessions WHERE session_id = $1 AND revoked_at IS NULL AND expires_at > $2",
        session_id,
        now,
    )
    return None if row is None else LiveSession(**dict(row))


async def hold_session(tx: Tx, session_id: UUID, now: datetime) -> bool:
    """Whether a session has not ended; it does not end before this transaction does."""
    found = await tx.fetchval(
        "SELECT true FROM identity.sessions WHERE session_id = $1 AND revoked_at IS NULL AND expires_at > $2"
        " FOR SHARE",
        session_id,
        now,
    )
    return found is not None


async def live_sessions(
    tx: Tx, network_id: UUID, user_id: UUID, now: datetime, limit: int
) -> list[LiveSession]:
    """The user's sessions in this network, newest first."""
    rows = await tx.fetch(
        "SELECT session_id, device_key, device_id, created_at, refreshed_at, expires_at, ends_at"
        " FROM identity.sessions WHERE user_id = $1 AND network_id = $2 AND revoked_at IS NULL"
        " AND expires_at > $3 ORDER BY created_at DESC, session_id LIMIT $4",
        user_id,
        network_id,
        now,
        limit,
    )
    return [LiveSession(**dict(row)) for row in rows]


async def last_uses(tx: Tx, session_ids: Sequence[UUID], now: datetime) -> dict[UUID, datetime]:
    """When each of the user's sessions that has not ended was refreshed last."""
    rows = await tx.fetch(
        "SELECT session_id, refreshed_at FROM identity.sessions"
        " WHERE session_id = ANY ($1::uuid[]) AND revoked_at IS NULL AND expires_at > $2",
        list(session_ids),
        now,
    )
    return {row["session_id"]: row["refreshed_at"] for row in rows}
