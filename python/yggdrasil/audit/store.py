"""All SQL of the audit: events under the scope that does the thing, chains under System(JOB)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from yggdrasil.audit.chain import Head, Row, to_head
from yggdrasil.audit.events import Event
from yggdrasil.db import Tx

JOB: Final = "audit-chain"
"""The one job that links and signs."""
LOCK_ID: Final = 0x59474143  # "YGAC", for pg_try_advisory_xact_lock

_RECORD: Final = """
    WITH made AS (
        INSERT INTO tenant.audit_events (network_id, event_id, kind, actor_kind, actor_id, user_id,
            subject_kind, subject_id, detail, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    )
    INSERT INTO tenant.audit_pending (network_id, event_id) VALUES ($1, $2)
"""
_HEAD: Final = "SELECT network_id, number, hash, at, key_id, signature FROM tenant.audit_heads"


class _Recorded:
    """How many events this process recorded, whether they were committed or not: a hint for its chainer."""

    count = 0


recorded: Final = _Recorded()


async def record(tx: Tx, *events: Event) -> None:
    """Write events in the transaction that does what they say: they stand if it does, and only then.

    Under Network and Identity in the scope's own network; under System as one of the jobs that the policy
    lists. One round trip each; they are linked into the network's chain afterwards."""
    if not events:
        return
    recorded.count += 1
    await tx.executemany(
        _RECORD,
        [
            (
                one.network_id,
                one.event_id,
                one.kind.value,
                one.actor.kind.value,
                one.actor.actor_id,
                one.user_id,
                one.subject,
                one.subject_id,
                one.detail_text(),
                one.at,
            )
            for one in events
        ],
    )


# Linking: System(JOB)


async def lock(tx: Tx) -> bool:
    """Be the one that links, until this transaction ends. False: another node is."""
    return bool(await tx.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK_ID))


async def select_waiting(tx: Tx, but: Sequence[UUID], limit: int) -> list[dict[str, Any]]:
    """Events that are in no chain, the oldest first; none of the networks `but`."""
    rows = await tx.fetch(
        "SELECT e.* FROM tenant.audit_pending p JOIN tenant.audit_events e USING (network_id, event_id)"
        " WHERE p.network_id <> ALL ($1::uuid[]) ORDER BY e.at, e.event_id LIMIT $2",
        list(but),
        limit,
    )
    return [dict(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Tip:
    """A chain's last row, and its last head."""

    number: int
    hash: bytes
    head: Head | None


async def select_tips(tx: Tx, networks: Sequence[UUID]) -> dict[UUID, Tip]:
    """Where the chains of these networks end; those without a row are left out."""
    rows = await tx.fetch(
        """
        SELECT n.id AS of, l.number AS ends, l.hash AS with_hash, h.*
        FROM unnest($1::uuid[]) AS n (id)
        JOIN LATERAL (SELECT number, hash FROM tenant.audit_links
            WHERE network_id = n.id ORDER BY number DESC LIMIT 1) l ON true
        LEFT JOIN LATERAL (SELECT * FROM tenant.audit_heads
            WHERE network_id = n.id ORDER BY number DESC LIMIT 1) h ON true
        """,
        list(networks),
    )
    return {
        row["of"]: Tip(row["ends"], row["with_hash"], None if row["number"] is None else to_head(row))
        for row in rows
    }


async def insert_links(tx: Tx, rows: Sequence[Row]) -> None:
    """New ends of chains; they wait no more. A number that is taken raises: no chain forks."""
    await tx.executemany(
        "INSERT INTO tenant.audit_links (network_id, number, event_id, format, previous_hash, hash)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        [
            tuple(
                row[name] for name in ("network_id", "number", "event_id", "format", "previous_hash", "hash")
            )
            for row in rows
        ],
    )
    await tx.execute(
        "DELETE FROM tenant.audit_pending p USING unnest($1::uuid[], $2::uuid[]) AS d (network_id, event_id)"
        " WHERE p.network_id = d.network_id AND p.event_id = d.event_id",
        [row["network_id"] for row in rows],
        [row["event_id"] for row in rows],
    )


async def insert_heads(tx: Tx, heads: Sequence[Head]) -> None:
    await tx.executemany(
        "INSERT INTO tenant.audit_heads (network_id, number, hash, at, key_id, signature)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        [(one.network_id, one.number, one.hash, one.at, one.key_id, one.signature) for one in heads],
    )


async def select_heads_after(tx: Tx, place: tuple[datetime, UUID, int] | None, limit: int) -> list[Head]:
    """Heads of all networks by (at, network, number), from the one after that place on."""
    rows = await tx.fetch(
        _HEAD + " WHERE $1::timestamptz IS NULL OR (at, network_id, number) > ($1, $2::uuid, $3::bigint)"
        " ORDER BY at, network_id, number LIMIT $4",
        *(place or (None, None, None)),
        limit,
    )
    return [to_head(row) for row in rows]


# Crossings of System: System(JOB)


async def select_crossed_to(tx: Tx, network_id: UUID, kind: str) -> str | None:
    """Until when uses of System were counted last."""
    text: str | None = await tx.fetchval(
        "SELECT detail::jsonb ->> 'to' FROM tenant.audit_events WHERE network_id = $1 AND kind = $2"
        " ORDER BY at DESC LIMIT 1",
        network_id,
        kind,
    )
    return text


async def count_uses(tx: Tx, since: datetime, until: datetime, limit: int) -> dict[str, int]:
    """Uses of System by job in [since, until); at most `limit` jobs, those with most uses."""
    rows = await tx.fetch(
        "SELECT job, count(*) AS uses FROM jobs.audit WHERE scope = 'system' AND at >= $1 AND at < $2"
        " GROUP BY job ORDER BY uses DESC, job LIMIT $3",
        since,
        until,
        limit,
    )
    return {row["job"]: row["uses"] for row in rows}
