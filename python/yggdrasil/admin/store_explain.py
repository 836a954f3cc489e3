"""The rows of one request, under System: an operator's question, read through and not on any hot path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from yggdrasil.db import Tx

ATTEMPTS_MAX = 64
WAITS_MAX = 128


async def attempts_of(tx: Tx, request: UUID) -> list[dict[str, Any]]:
    """All attempts of the request that has this id, or has it on its provider's side, or for an attempt."""
    rows = await tx.fetch(
        """
        SELECT a.* FROM platform.attempts a JOIN (
            SELECT DISTINCT requester_network, requester_transaction FROM platform.attempts
            WHERE requester_transaction = $1 OR provider_transaction = $1 OR attempt_id = $1
        ) r USING (requester_network, requester_transaction)
        ORDER BY a.ordinal, a.started_at LIMIT $2
        """,
        request,
        ATTEMPTS_MAX,
    )
    return [dict(row) for row in rows]


async def waiting_of(tx: Tx, request: UUID) -> dict[str, Any] | None:
    """The requester's row of a request that was never sent to anybody: it waited, and nothing came of it."""
    row = await tx.fetchrow(
        "SELECT t.network_id AS requester_network, t.transaction_id AS requester_transaction"
        " FROM tenant.transactions t WHERE t.side = 'requester' AND t.transaction_id = $1"
        " ORDER BY t.network_id LIMIT 1",
        request,
    )
    return None if row is None else dict(row)


async def waits_of(tx: Tx, network_id: UUID, request: UUID) -> list[dict[str, Any]]:
    """Its stays in the queue, in order."""
    rows = await tx.fetch(
        "SELECT w.* FROM platform.waits w WHERE w.network_id = $1 AND w.transaction_id = $2"
        " ORDER BY w.ordinal LIMIT $3",
        network_id,
        request,
        WAITS_MAX,
    )
    return [dict(row) for row in rows]


async def transactions_of(tx: Tx, networks: Sequence[UUID], ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """Both sides' rows, the requester's first."""
    rows = await tx.fetch(
        "SELECT t.* FROM tenant.transactions t"
        " WHERE t.network_id = ANY ($1::uuid[]) AND t.side IN ('requester', 'provider')"
        " AND t.transaction_id = ANY ($2::uuid[]) ORDER BY t.side DESC, t.created_at",
        list(networks),
        list(ids),
    )
    return [dict(row) for row in rows]


async def holds_of(tx: Tx, network_id: UUID, holds: Sequence[UUID]) -> list[dict[str, Any]]:
    rows = await tx.fetch(
        "SELECT h.* FROM tenant.holds h WHERE h.network_id = $1 AND h.hold_id = ANY ($2::uuid[])"
        " ORDER BY h.created_at, h.hold_id",
        network_id,
        list(holds),
    )
    return [dict(row) for row in rows]


async def entries_of(tx: Tx, networks: Sequence[UUID], transfers: Sequence[UUID]) -> list[dict[str, Any]]:
    """Ledger rows of the transfers: one for each leg."""
    rows = await tx.fetch(
        "SELECT e.* FROM tenant.entries e"
        " WHERE e.network_id = ANY ($1::uuid[]) AND e.transfer_id = ANY ($2::uuid[])"
        " ORDER BY e.at, e.transfer_id, e.network_id, e.leg",
        list(networks),
        list(transfers),
    )
    return [dict(row) for row in rows]
