"""The SQL of requests that wait: PENDING rows and who answers for them. Under Settle(requester),
unless it says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.store_run import NewTransaction

LISTED_MAX = 500


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that answers for a waiting request, and until when."""

    node_id: UUID
    boot_id: UUID
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class Queued:
    """A waiting request, as the reconciler sees it."""

    network_id: UUID
    transaction_id: UUID
    boot_id: UUID
    deadline_at: datetime


_INSERT = """
    WITH pending AS (
        INSERT INTO tenant.transactions (network_id, side, transaction_id, user_id, device, key_id, state,
            scope, kind, model, price_cents, price_unit_tokens, rounding, fee_basis_points, prompt_tokens,
            completion_tokens, total_microcents, fee_microcents, earnings_microcents, attempts,
            idempotency_key, created_at)
        VALUES ($1, 'requester', $2, $3, $4, $5, 'PENDING', $6, $7, $8, 0, 1000, 'per_request', 0, 0, 0, 0, 0,
            0, 0, $9, $10)
    )
    INSERT INTO platform.queued (network_id, transaction_id, node_id, boot_id, deadline_at)
    VALUES ($1, $2, $11, $12, $13)
"""

_END = """
    WITH gone AS (
        DELETE FROM platform.queued WHERE network_id = $1 AND transaction_id = $2
    )
    UPDATE tenant.transactions SET state = $3, error_code = $4, ended_at = $5
    WHERE network_id = $1 AND side = 'requester' AND transaction_id = $2 AND state = 'PENDING'
"""


async def insert_pending(tx: Tx, new: NewTransaction, owner: Owner) -> None:
    """The requester's row, which waits; it has no price yet."""
    await tx.execute(
        _INSERT,
        new.network_id,
        new.transaction_id,
        new.user_id,
        new.device,
        new.key_id,
        new.scope,
        new.kind,
        new.model,
        new.idempotency_key,
        new.created_at,
        owner.node_id,
        owner.boot_id,
        owner.deadline_at,
    )


async def end(
    tx: Tx, network_id: UUID, transaction_id: UUID, state: State, error_code: str, at: datetime
) -> bool:
    """PENDING to FAILED or CANCELLED; False if it does not wait any more."""
    status = await tx.execute(_END, network_id, transaction_id, state.value, error_code, at)
    return status == "UPDATE 1"


async def stale(tx: Tx, *, live_boots: Sequence[UUID], deadline_before: datetime) -> list[Queued]:
    """What waits in boots that are not alive, or past its deadline. Under System."""
    rows = await tx.fetch(
        "SELECT network_id, transaction_id, boot_id, deadline_at FROM platform.queued"
        " WHERE deadline_at < $1 OR NOT boot_id = ANY ($2::uuid[]) ORDER BY deadline_at LIMIT $3",
        deadline_before,
        list(live_boots),
        LISTED_MAX,
    )
    return [Queued(**dict(row)) for row in rows]
