"""All SQL of the vault. Sees sealed bytes and digests only, never what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from yggdrasil.db import Tx

_ERASE: Final = """
UPDATE vault.subjects SET state = 'erased', wrapped_key = NULL, kek_id = NULL, touched_at = $2
WHERE subject = $1 AND state <> 'erased'
"""
_ERASE_STALE: Final = """
UPDATE vault.subjects SET state = 'erased', wrapped_key = NULL, kek_id = NULL, touched_at = $2
WHERE subject = $1 AND state = 'pending' AND touched_at < $3
"""


async def insert_flow(tx: Tx, flow: UUID, wrapped_key: bytes, sealed: bytes, expires_at: datetime) -> None:
    await tx.execute(
        "INSERT INTO vault.flows (flow, wrapped_key, sealed, expires_at) VALUES ($1, $2, $3, $4)",
        flow,
        wrapped_key,
        sealed,
        expires_at,
    )


async def select_flow(tx: Tx, flow: UUID, now: datetime) -> tuple[bytes, bytes] | None:
    """Wrapped key and sealed note of a flow that has not expired."""
    row = await tx.fetchrow(
        "SELECT wrapped_key, sealed FROM vault.flows WHERE flow = $1 AND expires_at > $2", flow, now
    )
    return None if row is None else (row["wrapped_key"], row["sealed"])


async def delete_flow(tx: Tx, flow: UUID) -> None:
    await tx.execute("DELETE FROM vault.flows WHERE flow = $1", flow)


async def delete_expired_flows(tx: Tx, now: datetime, limit: int) -> None:
    await tx.execute(
        "DELETE FROM vault.flows WHERE flow IN "
        "(SELECT flow FROM vault.flows WHERE expires_at <= $1 LIMIT $2)",
        now,
        limit,
    )


async def select_subject_of(tx: Tx, address_indexes: Sequence[bytes]) -> UUID | None:
    """Whose address it is; one index for each key of the ring."""
    subject: UUID | None = await tx.fetchval(
        "SELECT subject FROM vault.addresses WHERE address_index = ANY ($1::bytea[])", list(address_indexes)
    )
    return subject


async def touch_subject(tx: Tx, subject: UUID, now: datetime) -> tuple[str, bytes] | None:
    """State and wrapped key of a living subject; its grace as `pending` starts again."""
    row = await tx.fetchrow(
        "UPDATE vault.subjects SET touched_at = $2 WHERE subject = $1 AND state <> 'erased' "
        "RETURNING state, wrapped_key",
        subject,
        now,
    )
    return None if row is None else (row["state"], row["wrapped_key"])


async def insert_subject(tx: Tx, subject: UUID, wrapped_key: bytes, kek_id: str, now: datetime) -> None:
    await tx.execute(
        "INSERT INTO vault.subjects (subject, state, wrapped_key, kek_id, created_at, touched_at) "
        "VALUES ($1, 'pending', $2, $3, $4, $4)",
        subject,
        wrapped_key,
        kek_id,
        now,
    )


async def insert_address(tx: Tx, address_index: bytes, subject: UUID) -> bool:
    """False if the address belongs to somebody already."""
    status = await tx.execute(
        "INSERT INTO vault.addresses (address_index, subject) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        address_index,
        subject,
    )
    return status.endswith(" 1")


async def activate_subject(tx: Tx, subject: UUID, now: datetime) -> bool:
    """True if the subject is active now, also if it was before."""
    status = await tx.execute(
        "UPDATE vault.subjects SET state = 'active', touched_at = $2 "
        "WHERE subject = $1 AND state <> 'erased'",
        subject,
        now,
    )
    return status.endswith(" 1")


async def select_wrapped_key(tx: Tx, subject: UUID, *, lock: bool = False) -> bytes | None:
    """The wrapped data key of a living subject; with `lock`, nobody erases the subject before the commit."""
    sql = "SELECT wrapped_key FROM vault.subjects WHERE subject = $1 AND state <> 'erased'"
    wrapped: bytes | None = await tx.fetchval(sql + " FOR UPDATE" if lock else sql, subject)
    return wrapped


async def select_fields(tx: Tx, subject: UUID) -> list[tuple[str, bytes, int]]:
    rows = await tx.fetch("SELECT field, sealed, key_version FROM vault.fields WHERE subject = $1", subject)
    return [(row["field"], row["sealed"], row["key_version"]) for row in rows]


async def upsert_field(
    tx: Tx, subject: UUID, name: str, sealed: bytes, key_version: int, now: datetime
) -> None:
    await tx.execute(
        "INSERT INTO vault.fields (subject, field, sealed, key_version, updated_at) "
        "VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (subject, field) DO UPDATE SET sealed = $3, key_version = $4, updated_at = $5",
        subject,
        name,
        sealed,
        key_version,
        now,
    )


async def erase_subject(
    tx: Tx, subject: UUID, now: datetime, *, pending_before: datetime | None = None
) -> bool:
    """Destroy the data key and every row of a subject; with `pending_before`, only if it never became
    active.
    """
    if pending_before is None:
        status = await tx.execute(_ERASE, subject, now)
    else:
        status = await tx.execute(_ERASE_STALE, subject, now, pending_before)
    if not status.endswith(" 1"):
        return False
    await tx.execute("DELETE FROM vault.fields WHERE subject = $1", subject)
    await tx.execute("DELETE FROM vault.addresses WHERE subject = $1", subject)
    return True


async def select_pending(tx: Tx, before: datetime, limit: int) -> list[UUID]:
    rows = await tx.fetch(
        "SELECT subject FROM vault.subjects WHERE state = 'pending' AND touched_at < $1 "
        "ORDER BY touched_at LIMIT $2",
        before,
        limit,
    )
    return [row["subject"] for row in rows]


async def select_wrapped_by_others(tx: Tx, kek_id: str, limit: int) -> list[tuple[UUID, bytes]]:
    """Living subjects whose data key is not wrapped by the current KEK, locked against a second rewrapper."""
    rows = await tx.fetch(
        "SELECT subject, wrapped_key FROM vault.subjects WHERE kek_id <> $1 LIMIT $2 FOR UPDATE SKIP LOCKED",
        kek_id,
        limit,
    )
    return [(row["subject"], row["wrapped_key"]) for row in rows]


async def update_wrapped_key(tx: Tx, subject: UUID, wrapped_key: bytes, kek_id: str) -> None:
    await tx.execute(
        "UPDATE vault.subjects SET wrapped_key = $2, kek_id = $3 WHERE subject = $1",
        subject,
        wrapped_key,
        kek_id,
    )
