"""SQL of those who read chains: the verifier under System, a network's owner under Network."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from yggdrasil.audit.chain import Head, to_head
from yggdrasil.db import Tx

_COLUMNS: Final = """
    l.number, l.event_id, e.kind, e.actor_kind, e.actor_id, e.user_id, e.subject_kind, e.subject_id, e.detail,
    e.at, l.format, l.previous_hash, l.hash
"""


async def freeze(tx: Tx) -> None:
    """What comes after sees one moment of the database. The first statement of its transaction."""
    await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


async def select_networks(tx: Tx, after: UUID | None, limit: int) -> list[UUID]:
    """All networks that have anything of a chain, by id."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT network_id FROM (
            SELECT network_id FROM tenant.audit_links UNION SELECT network_id FROM tenant.audit_heads
            UNION SELECT network_id FROM tenant.audit_events
        ) n WHERE $1::uuid IS NULL OR network_id > $1 ORDER BY network_id LIMIT $2
        """,
        after,
        limit,
    )
    return [row["network_id"] for row in rows]


async def select_rows(tx: Tx, network_id: UUID, after: int, limit: int) -> list[dict[str, Any]]:
    """Rows of a chain after a number, with every column there is; of an event that is gone, NULLs."""
    rows = await tx.fetch(
        "SELECT e.*, l.* FROM tenant.audit_links l LEFT JOIN tenant.audit_events e"
        " ON e.network_id = l.network_id AND e.event_id = l.event_id"
        " WHERE l.network_id = $1 AND l.number > $2 ORDER BY l.number LIMIT $3",
        network_id,
        after,
        limit,
    )
    return [dict(row) for row in rows]


async def select_heads(
    tx: Tx, network_id: UUID, after: int, upto: int | None, limit: int | None
) -> list[Head]:
    """Heads of a chain with after < number <= upto."""
    rows = await tx.fetch(
        "SELECT network_id, number, hash, at, key_id, signature FROM tenant.audit_heads"
        " WHERE network_id = $1 AND number > $2 AND ($3::bigint IS NULL OR number <= $3)"
        " ORDER BY number LIMIT $4",
        network_id,
        after,
        upto,
        limit,
    )
    return [to_head(row) for row in rows]


async def count_waiting(tx: Tx) -> int:
    """Events that will be linked in the next round."""
    found: int = await tx.fetchval(
        "SELECT count(*) FROM tenant.audit_pending p JOIN tenant.audit_events e USING (network_id, event_id)"
    )
    return found


async def select_strays(tx: Tx, limit: int) -> list[tuple[UUID, UUID, str]]:
    """(network, event, what is wrong): events in no chain that do not wait either, those that wait and are
    gone, and those that wait although they are in a chain."""
    rows = await tx.fetch(
        """
        SELECT e.network_id, e.event_id, 'is in no chain, and does not wait for one' AS why
        FROM tenant.audit_events e
        LEFT JOIN tenant.audit_links l ON l.network_id = e.network_id AND l.event_id = e.event_id
        LEFT JOIN tenant.audit_pending p ON p.network_id = e.network_id AND p.event_id = e.event_id
        WHERE l.event_id IS NULL AND p.event_id IS NULL
        UNION ALL
        SELECT p.network_id, p.event_id, 'waited for its chain, and is gone' FROM tenant.audit_pending p
        LEFT JOIN tenant.audit_events e USING (network_id, event_id) WHERE e.event_id IS NULL
        UNION ALL
        SELECT p.network_id, p.event_id, 'waits, and is in a chain already' FROM tenant.audit_pending p
        JOIN tenant.audit_links l USING (network_id, event_id)
        LIMIT $1
        """,
        limit,
    )
    return [(row["network_id"], row["event_id"], row["why"]) for row in rows]


async def select_missing_uses(tx: Tx, network_id: UUID, kind: str, since: datetime) -> list[dict[str, Any]]:
    """Counted uses of System, from `since` on, of which not all are in its audit any more."""
    rows = await tx.fetch(
        """
        SELECT s.event_id, s.job, s.uses, s.found FROM (
            SELECT e.event_id, u.key AS job, u.value::bigint AS uses, (
                SELECT count(*) FROM jobs.audit a WHERE a.scope = 'system' AND a.job = u.key
                  AND a.at >= (e.detail::jsonb ->> 'since')::timestamptz
                  AND a.at < (e.detail::jsonb ->> 'to')::timestamptz
            ) AS found
            FROM tenant.audit_events e CROSS JOIN jsonb_each_text(e.detail::jsonb -> 'uses') u
            WHERE e.network_id = $1 AND e.kind = $2 AND e.at >= $3
              AND (e.detail::jsonb ->> 'since')::timestamptz >= $3
        ) s WHERE s.found < s.uses LIMIT 100
        """,
        network_id,
        kind,
        since,
    )
    return [dict(row) for row in rows]


# A network's own: Network, owner or admin


async def select_page(
    tx: Tx, network_id: UUID, kind: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Rows of a chain, newest first, from the one before `before` on."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM tenant.audit_links l JOIN tenant.audit_events e"  # noqa: S608  own columns
        " ON e.network_id = l.network_id AND e.event_id = l.event_id"
        " WHERE l.network_id = $1 AND ($2::text IS NULL OR e.kind = $2)"
        " AND ($3::bigint IS NULL OR l.number < $3) ORDER BY l.number DESC LIMIT $4",
        network_id,
        kind,
        before,
        limit,
    )
    return [dict(row) for row in rows]


async def select_last_head(tx: Tx, network_id: UUID) -> Head | None:
    row = await tx.fetchrow(
        "SELECT network_id, number, hash, at, key_id, signature FROM tenant.audit_heads"
        " WHERE network_id = $1 ORDER BY number DESC LIMIT 1",
        network_id,
    )
    return None if row is None else to_head(row)


async def select_alerts(tx: Tx, network_id: UUID, kind: str, limit: int) -> list[dict[str, Any]]:
    """The newest events of one kind, linked or not yet; under System."""
    rows = await tx.fetch(
        "SELECT event_id, at, subject_id, detail FROM tenant.audit_events"
        " WHERE network_id = $1 AND kind = $2 ORDER BY at DESC, event_id LIMIT $3",
        network_id,
        kind,
        limit,
    )
    return [dict(row) for row in rows]


async def count_since(tx: Tx, network_id: UUID, kind: str, since: datetime) -> int:
    """How many events of one kind since a moment; under System."""
    found: int = await tx.fetchval(
        "SELECT count(*) FROM tenant.audit_events WHERE network_id = $1 AND kind = $2 AND at >= $3",
        network_id,
        kind,
        since,
    )
    return found
