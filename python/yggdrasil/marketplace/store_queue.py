"""The SQL of requests that wait: PENDING rows, who answers for them, and why and where they began to wait.
Under Settle(requester), unless it says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.marketplace.requests import State, sources
from yggdrasil.marketplace.store_run import NewTransaction

LISTED_MAX = 500

WaitReason = Literal["busy", "refused", "failed", "unpaid"]
"""Why a request waits: all that fits is busy; its device said so; its provider failed, and the others are
busy; its turn came, and the provider cannot be paid."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that answers for a waiting request, and until when."""

    node_id: UUID
    boot_id: UUID
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """One stay in the queue, from its beginning; how it ended is told by what came next."""

    ordinal: int
    reason: WaitReason
    gates: Sequence[str]
    """What offers failed."""
    attempts: int
    """Made before."""
    ahead: int
    """Turns before its own."""
    waiting: int
    """How many others waited, for whatever."""
    queued_at: datetime
    until_at: datetime


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

_BACK = """
    WITH back AS (
        UPDATE tenant.transactions SET state = 'PENDING'
        WHERE network_id = $1 AND side = 'requester' AND transaction_id = $2 AND state = ANY ($3::text[])
        RETURNING network_id, transaction_id
    )
    INSERT INTO platform.queued (network_id, transaction_id, node_id, boot_id, deadline_at)
    SELECT network_id, transaction_id, $4, $5, $6 FROM back
"""

_WAIT = """
    INSERT INTO platform.waits (network_id, transaction_id, ordinal, reason, gates, attempts, ahead, waiting,
        queued_at, until_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
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


async def send_back(tx: Tx, network_id: UUID, transaction_id: UUID, owner: Owner) -> bool:
    """PROCESSING to PENDING; False if it is not on its way any more. Its attempt has ended, and its hold."""
    status = await tx.execute(
        _BACK,
        network_id,
        transaction_id,
        sources(State.PENDING),
        owner.node_id,
        owner.boot_id,
        owner.deadline_at,
    )
    return status == "INSERT 0 1"


async def insert_wait(tx: Tx, network_id: UUID, transaction_id: UUID, wait: Wait) -> None:
    """The beginning of a stay in the queue."""
    await tx.execute(
        _WAIT,
        network_id,
        transaction_id,
        wait.ordinal,
        wait.reason,
        list(wait.gates),
        wait.attempts,
        wait.ahead,
        wait.waiting,
        wait.queued_at,
        wait.until_at,
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
