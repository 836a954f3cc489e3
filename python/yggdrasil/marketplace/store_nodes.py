"""The SQL of nodes, and of what past boots have learnt. Under System."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.marketplace.seen import PastAttempt


async def beat(tx: Tx, node_id: UUID, boot_id: UUID, at: datetime) -> None:
    await tx.execute(
        "INSERT INTO platform.nodes (boot_id, node_id, started_at, heartbeat_at) VALUES ($1, $2, $3, $3)"
        " ON CONFLICT (boot_id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at",
        boot_id,
        node_id,
        at,
    )


async def leave(tx: Tx, boot_id: UUID) -> None:
    await tx.execute("DELETE FROM platform.nodes WHERE boot_id = $1", boot_id)


async def live_boots(tx: Tx, silent_before: datetime) -> list[UUID]:
    """Boots that were heard of lately. Of one node only the newest can be alive: a node is one process."""
    rows = await tx.fetch(
        "SELECT boot_id FROM (SELECT DISTINCT ON (node_id) boot_id, heartbeat_at FROM platform.nodes"
        " ORDER BY node_id, started_at DESC, boot_id) newest WHERE heartbeat_at >= $1",
        silent_before,
    )
    return [row["boot_id"] for row in rows]


async def past_attempts(
    tx: Tx, since: datetime, limit: int, tolerance_percent: int, first_chunk_seconds: float
) -> list[PastAttempt]:
    """The latest ended attempts, for the quality of offers; without those that had no time for an answer."""
    rows = await tx.fetch(
        "SELECT offer, state, observed_tokens, claimed_tokens, error_code, latency_ms,"
        " tokens_per_second, ended_at FROM platform.attempts"
        " WHERE ended_at > $1 AND state IN ('completed', 'failed', 'busy')"
        " AND (error_code IS DISTINCT FROM 'timeout' OR ended_at - started_at >= $3)"
        " ORDER BY ended_at DESC LIMIT $2",
        since,
        limit,
        timedelta(seconds=first_chunk_seconds),
    )
    return [
        PastAttempt(
            offer=row["offer"],
            end=row["state"],
            delivered=bool(row["observed_tokens"]),
            exaggerated=row["claimed_tokens"] is not None
            and row["claimed_tokens"] * 100 > (row["observed_tokens"] or 0) * (100 + tolerance_percent),
            error_code=row["error_code"],
            first_chunk_ms=row["latency_ms"],
            tokens_per_second=row["tokens_per_second"],
            ended_at=row["ended_at"],
        )
        for row in rows
    ]
