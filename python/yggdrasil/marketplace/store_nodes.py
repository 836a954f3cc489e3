"""The SQL of nodes, and of what past boots have learnt. Under System, if nothing else is said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
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


_PAST: Final = """
    SELECT a.offer, a.provider_network AS owner, t.model, a.state AS "end", a.observed_tokens,
        a.claimed_tokens, a.quality_ppm, a.error_code, a.latency_ms AS first_chunk_ms, a.tokens_per_second,
        a.ended_at, false AS canary
    FROM platform.attempts a
    LEFT JOIN tenant.transactions t ON t.network_id = a.requester_network AND t.side = 'requester'
        AND t.transaction_id = a.requester_transaction
    WHERE a.ended_at > $1 AND a.state IN ('completed', 'failed', 'busy')
        AND (a.error_code IS DISTINCT FROM 'timeout' OR a.ended_at - a.started_at >= $3)
"""
_FAILING: Final = """
        AND a.provider_network IN (
            SELECT provider_network FROM platform.attempts WHERE ended_at > $1 AND state = 'failed'
            UNION SELECT network_id FROM platform.canaries WHERE ended_at > $1 AND state = 'failed'
        )
"""
_LATEST: Final = " ORDER BY a.ended_at DESC LIMIT $2"


async def past_attempts(
    tx: Tx, since: datetime, limit: int, first_chunk_seconds: float, *, failing: bool = False
) -> list[PastAttempt]:
    """The latest ended attempts, for what is learnt of offers; without those that had no time for an answer.
    With `failing` those at owners one of whose failed since then. The oldest first."""
    rows = await tx.fetch(
        _PAST + (_FAILING if failing else "") + _LATEST,
        since,
        limit,
        timedelta(seconds=first_chunk_seconds),
    )
    return [_past(row) for row in reversed(rows)]


async def past_canaries(tx: Tx, since: datetime, limit: int) -> list[PastAttempt]:
    """The latest canary jobs, the oldest first. Their offers tell the models."""
    rows = await tx.fetch(
        'SELECT offer, network_id AS owner, NULL AS model, state AS "end", observed_tokens, claimed_tokens,'
        " quality_ppm, error_code, latency_ms AS first_chunk_ms, tokens_per_second, ended_at, true AS canary"
        " FROM platform.canaries WHERE ended_at > $1 ORDER BY ended_at DESC LIMIT $2",
        since,
        limit,
    )
    return [_past(row) for row in reversed(rows)]


def _past(row: Any) -> PastAttempt:
    values = dict(row)
    ppm = values.pop("quality_ppm")
    return PastAttempt(quality=None if ppm is None else ppm / 1_000_000, **values)


async def broken_off(tx: Tx, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
    """(requester, when) of the market's answers that broke off; the oldest first."""
    rows = await tx.fetch(
        "SELECT a.requester_network, a.ended_at FROM platform.attempts a JOIN tenant.transactions t"
        " ON t.network_id = a.requester_network AND t.side = 'requester'"
        " AND t.transaction_id = a.requester_transaction AND t.scope = 'market'"
        " WHERE a.verdict = 'broke_off' AND a.ended_at > $1 ORDER BY a.ended_at DESC LIMIT $2",
        since,
        limit,
    )
    return [tuple(row) for row in reversed(rows)]


async def insert_canaries(tx: Tx, canaries: Sequence[tuple[UUID, PastAttempt]]) -> None:
    """(id, how it ended) of canary jobs; under Market."""
    await tx.executemany(
        "INSERT INTO platform.canaries (canary_id, network_id, offer, state, observed_tokens, claimed_tokens,"
        " quality_ppm, latency_ms, tokens_per_second, error_code, ended_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        [
            (
                id_,
                one.owner,
                one.offer,
                one.end,
                one.observed_tokens or 0,
                one.claimed_tokens,
                round((one.quality or 0.0) * 1_000_000),
                one.first_chunk_ms,
                one.tokens_per_second,
                one.error_code,
                one.ended_at,
            )
            for id_, one in canaries
        ],
    )


async def delete_canaries(tx: Tx, ended_before: datetime) -> None:
    await tx.execute("DELETE FROM platform.canaries WHERE ended_at < $1", ended_before)


async def keep_conversations(tx: Tx, node_id: UUID, kept: Sequence[tuple[bytes, UUID, datetime]]) -> None:
    """(conversation, offer, when served) of a node that stops; under Market."""
    await tx.execute(
        "INSERT INTO platform.conversations (node_id, conversation, offer, served_at)"
        " SELECT $1, * FROM unnest($2::bytea[], $3::uuid[], $4::timestamptz[]) ON CONFLICT DO NOTHING",
        node_id,
        *(list(column) for column in zip(*kept, strict=True)),
    )


async def take_conversations(tx: Tx, node_id: UUID, since: datetime) -> list[tuple[bytes, UUID, datetime]]:
    """What the node kept and is younger, the oldest first; that and what is older is deleted."""
    rows = await tx.fetch(
        "DELETE FROM platform.conversations WHERE node_id = $1 OR served_at <= $2"
        " RETURNING node_id, conversation, offer, served_at",
        node_id,
        since,
    )
    mine = [
        (bytes(row["conversation"]), row["offer"], row["served_at"])
        for row in rows
        if row["node_id"] == node_id and row["served_at"] > since
    ]
    return sorted(mine, key=lambda one: one[2])
