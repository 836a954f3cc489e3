"""All SQL of sign-in and sessions. `tx` first; its scope says what can be seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.kernel import CURRENCY, Role
from yggdrasil.users.tables import SessionRow

# Raw SQL where a statement must count and answer at once, or locks; Piccolo for the rest.

_COUNT: Final = """
INSERT INTO identity.login_limits AS l (kind, counted_key, window_start, hits) VALUES ($1, $2, $3, 1)
ON CONFLICT (kind, counted_key) DO UPDATE SET
    hits = CASE WHEN l.window_start <= $4 THEN 1 ELSE least(l.hits + 1, 1000000) END,
    window_start = CASE WHEN l.window_start <= $4 THEN $3 ELSE l.window_start END
RETURNING hits, window_start
"""
_TAKE_TRY: Final = """
UPDATE identity.login_flows SET tries = tries + 1
WHERE flow = $1 AND device_key = $2 AND tries < $3 AND used_at IS NULL AND expires_at > $4
RETURNING address_key, code_digest
"""
_KNOW_DEVICE: Final = """
INSERT INTO identity.known_devices (address_key, device_key, user_id, seen_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (address_key, device_key) DO UPDATE SET user_id = $3, seen_at = $4
"""
_FORGET_OLD_DEVICES: Final = """
DELETE FROM identity.known_devices WHERE user_id = $1 AND (address_key, device_key) IN (
    SELECT address_key, device_key FROM identity.known_devices WHERE user_id = $1
    ORDER BY seen_at DESC OFFSET $2)
"""
_END_OLD_SESSIONS: Final = """
UPDATE identity.sessions SET revoked_at = $2, revoked_for = 'limit' WHERE session_id IN (
    SELECT session_id FROM identity.sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
    ORDER BY created_at DESC, session_id OFFSET $3)
RETURNING session_id
"""


@dataclass(frozen=True, slots=True)
class Account:
    """An account, under the claimed user."""

    user_id: UUID
    home_network_id: UUID
    status: str
    epoch: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A session, under the claimed user."""

    session_id: UUID
    user_id: UUID
    network_id: UUID
    device_key: bytes = field(repr=False)
    device_id: UUID | None
    counter: int
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    ends_at: datetime | None = None
    """Of a session that was handed over: its end, however often it is refreshed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A row of the revocation list."""

    user_id: UUID
    session_id: UUID | None
    key_id: UUID | None
    epoch: int | None
    network_id: UUID | None = None
    """With it, `epoch` is that of the user's membership."""
    keeps_sockets: bool = False


# Counters, flows, known devices: Identity()


async def count_one(
    tx: Tx, kind: str, key: bytes, now: datetime, window_opened_after: datetime
) -> tuple[int, datetime]:
    """Count one more; the new count and the start of its window. Atomic: two callers never see the same
    count.
    """
    row = await tx.fetchrow(_COUNT, kind, key, now, window_opened_after)
    if row is None:
        raise AssertionError("an upsert returns its row")
    return row["hits"], row["window_start"]


async def uncount_one(tx: Tx, kind: str, key: bytes, window_start: datetime) -> None:
    """Give a count back, if its window still runs."""
    await tx.execute(
        "UPDATE identity.login_limits SET hits = hits - 1 "
        "WHERE kind = $1 AND counted_key = $2 AND window_start = $3 AND hits > 0",
        kind,
        key,
        window_start,
    )


async def insert_flow(
    tx: Tx,
    flow: UUID,
    address_key: bytes,
    device_key: bytes,
    code_digest: bytes,
    now: datetime,
    expires_at: datetime,
) -> None:
    await tx.execute(
        "INSERT INTO identity.login_flows "
        "(flow, address_key, device_key, code_digest, tries, created_at, expires_at) "
        "VALUES ($1, $2, $3, $4, 0, $5, $6)",
        flow,
        address_key,
        device_key,
        code_digest,
        now,
        expires_at,
    )


async def take_try(
    tx: Tx, flow: UUID, device_key: bytes, tries_max: int, now: datetime
) -> tuple[bytes, bytes] | None:
    """Spend one try of an open flow and lock it; its address key and code digest. None: no try was left or
    open.
    """
    row = await tx.fetchrow(_TAKE_TRY, flow, device_key, tries_max, now)
    return None if row is None else (row["address_key"], row["code_digest"])


async def use_flow(tx: Tx, flow: UUID, now: datetime) -> None:
    await tx.execute("UPDATE identity.login_flows SET used_at = $2 WHERE flow = $1", flow, now)


async def is_known_device(tx: Tx, address_key: bytes, device_key: bytes) -> bool:
    found = await tx.fetchval(
        "SELECT true FROM identity.known_devices WHERE address_key = $1 AND device_key = $2",
        address_key,
        device_key,
    )
    return found is not None


async def know_device(
    tx: Tx, address_key: bytes, device_key: bytes, user_id: UUID, now: datetime, keep: int
) -> None:
    """Remember a device key; the longest unseen above `keep` are forgotten."""
    await tx.execute(_KNOW_DEVICE, address_key, device_key, user_id, now)
    await tx.execute(_FORGET_OLD_DEVICES, user_id, keep)


async def delete_stale(tx: Tx, now: datetime, limits_before: datetime) -> None:
    """Drop expired flows, and counters whose longest window is over."""
    await tx.execute("DELETE FROM identity.login_flows WHERE expires_at <= $1", now)
    await tx.execute("DELETE FROM identity.login_limits WHERE window_start <= $1", limits_before)


async def delete_unseen_devices(tx: Tx, before: datetime) -> None:
    await tx.execute("DELETE FROM identity.known_devices WHERE seen_at <= $1", before)


# Accounts: Identity(user), and Identity(network, user) to found


async def select_account(tx: Tx, user_id: UUID) -> Account | None:
    row = await tx.fetchrow(
        "SELECT user_id, home_network_id, status, epoch, created_at FROM identity.accounts "
        "WHERE user_id = $1",
        user_id,
    )
    return None if row is None else Account(**dict(row))


async def select_role(tx: Tx, network_id: UUID, user_id: UUID) -> tuple[Role, int] | None:
    """The user's role in a network, and the membership's epoch, while the account is active."""
    row = await tx.fetchrow(
        "SELECT m.role, m.epoch FROM identity.memberships m JOIN identity.accounts a USING (user_id) "
        "WHERE m.network_id = $1 AND m.user_id = $2 AND a.status = 'active'",
        network_id,
        user_id,
    )
    return None if row is None else (Role(row["role"]), row["epoch"])


async def found_account(tx: Tx, user_id: UUID, network_id: UUID, now: datetime) -> None:
    """Account, home network and membership, unless the account is there already."""
    status = await tx.execute(
        "INSERT INTO identity.accounts (user_id, home_network_id, status, epoch, created_at) "
        "VALUES ($1, $2, 'active', 0, $3) ON CONFLICT (user_id) DO NOTHING",
        user_id,
        network_id,
        now,
    )
    if not status.endswith(" 1"):
        return
    await tx.execute(
        "INSERT INTO tenant.networks (network_id, created_at, currency) VALUES ($1, $2, $3)",
        network_id,
        now,
        CURRENCY,
    )
    await tx.execute(
        "INSERT INTO identity.memberships (network_id, user_id, role, created_at) "
        "VALUES ($1, $2, 'owner', $3)",
        network_id,
        user_id,
        now,
    )


async def home_of(tx: Tx, user_id: UUID) -> UUID | None:
    """The home network of an account that is not deleted."""
    home: UUID | None = await tx.fetchval(
        "SELECT home_network_id FROM identity.accounts WHERE user_id = $1 AND status = 'active'", user_id
    )
    return home


async def close_account(tx: Tx, user_id: UUID, now: datetime) -> int | None:
    """Mark deleted, end every session, ask for the erasure; the new epoch, or None if
    it was deleted before.
    """
    epoch: int | None = await tx.fetchval(
        "UPDATE identity.accounts SET status = 'deleted', epoch = epoch + 1 "
        "WHERE user_id = $1 AND status = 'active' RETURNING epoch",
        user_id,
    )
    if epoch is None:
        return None
    await tx.execute(
        "UPDATE identity.sessions SET revoked_at = $2, revoked_for = 'deleted' "
        "WHERE user_id = $1 AND revoked_at IS NULL",
        user_id,
        now,
    )
    await tx.execute("DELETE FROM identity.known_devices WHERE user_id = $1", user_id)
    await tx.execute(
        "INSERT INTO identity.erasures (user_id, requested_at) VALUES ($1, $2) "
        "ON CONFLICT (user_id) DO NOTHING",
        user_id,
        now,
    )
    return epoch


async def select_open_erasures(tx: Tx, limit: int) -> list[UUID]:
    rows = await tx.fetch(
        "SELECT user_id FROM identity.erasures WHERE erased_at IS NULL ORDER BY requested_at LIMIT $1", limit
    )
    return [row["user_id"] for row in rows]


async def finish_erasure(tx: Tx, user_id: UUID, now: datetime) -> None:
    await tx.execute(
        "UPDATE identity.erasures SET erased_at = $2 WHERE user_id = $1 AND erased_at IS NULL", user_id, now
    )


# Sessions: Identity(user)


async def insert_session(tx: Tx, session: Session, keep: int) -> list[UUID]:
    """Open a session; the oldest above `keep` end, and their ids are answered."""
    await tx.execute(
        "INSERT INTO identity.sessions (session_id, user_id, network_id, device_key, device_id, counter, "
        "created_at, refreshed_at, expires_at, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        session.session_id,
        session.user_id,
        session.network_id,
        session.device_key,
        session.device_id,
        session.counter,
        session.created_at,
        session.refreshed_at,
        session.expires_at,
        session.ends_at,
    )
    rows = await tx.fetch(_END_OLD_SESSIONS, session.user_id, session.created_at, keep)
    return [row["session_id"] for row in rows]


async def lock_session(tx: Tx, session_id: UUID) -> Session | None:
    row = await tx.fetchrow(
        "SELECT session_id, user_id, network_id, device_key, device_id, counter, created_at, refreshed_at, "
        "expires_at, revoked_at, ends_at FROM identity.sessions WHERE session_id = $1 FOR UPDATE",
        session_id,
    )
    return None if row is None else Session(**dict(row))


async def advance_session(
    tx: Tx, session_id: UUID, counter: int, now: datetime, expires_at: datetime
) -> None:
    await tx.execute(
        "UPDATE identity.sessions SET counter = $2, refreshed_at = $3, expires_at = $4 WHERE session_id = $1",
        session_id,
        counter,
        now,
        expires_at,
    )


async def end_session(tx: Tx, session_id: UUID, reason: str, now: datetime) -> bool:
    """False if it had ended before."""
    status = await tx.execute(
        "UPDATE identity.sessions SET revoked_at = $2, revoked_for = $3 "
        "WHERE session_id = $1 AND revoked_at IS NULL",
        session_id,
        now,
        reason,
    )
    return status.endswith(" 1")


async def end_sessions_of_key(
    tx: Tx, network_id: UUID, user_id: UUID, device_key: bytes, but: UUID | None, now: datetime
) -> list[UUID]:
    """End the user's sessions in this network bound to a device key, all but one; which they were."""
    rows = await tx.fetch(
        "UPDATE identity.sessions SET revoked_at = $5, revoked_for = 'logout'"
        " WHERE network_id = $1 AND user_id = $2 AND device_key = $3 AND session_id IS DISTINCT FROM $4"
        " AND revoked_at IS NULL RETURNING session_id",
        network_id,
        user_id,
        device_key,
        but,
        now,
    )
    return [row["session_id"] for row in rows]


async def set_session_device(tx: Tx, session_id: UUID, device_id: UUID) -> None:
    query = SessionRow.update({SessionRow.device_id: device_id}).where(SessionRow.session_id == session_id)
    await tx.run(query)


async def delete_old_sessions(tx: Tx, ended_before: datetime) -> None:
    """System("session-retention")."""
    await tx.execute("DELETE FROM identity.sessions WHERE expires_at < $1 OR revoked_at < $1", ended_before)


# Revocations: Identity(), and Network for its own keys


async def insert_revocation(tx: Tx, revocation_id: UUID, ended: Ended, now: datetime) -> None:
    await tx.execute(
        "INSERT INTO identity.revocations "
        "(revocation_id, user_id, session_id, key_id, epoch, at, network_id, keeps_sockets) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        revocation_id,
        ended.user_id,
        ended.session_id,
        ended.key_id,
        ended.epoch,
        now,
        ended.network_id,
        ended.keeps_sockets,
    )


async def select_revocations(tx: Tx, since: datetime) -> list[tuple[UUID, Ended]]:
    rows = await tx.fetch(
        "SELECT revocation_id, user_id, session_id, key_id, epoch, network_id, keeps_sockets "
        "FROM identity.revocations "
        "WHERE at >= $1 ORDER BY at, revocation_id",
        since,
    )
    return [(row[0], Ended(*tuple(row)[1:])) for row in rows]


async def delete_revocations(tx: Tx, before: datetime) -> None:
    await tx.execute("DELETE FROM identity.revocations WHERE at < $1", before)
