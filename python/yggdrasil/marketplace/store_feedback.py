"""The SQL of feedback."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from yggdrasil.db import Tx


@dataclass(frozen=True, slots=True)
class Rating:
    """One feedback, as the quality of an offer takes it."""

    offer: UUID
    score_ppm: int
    weight_ppm: int
    created_at: datetime


async def served_by(tx: Tx, network_id: UUID, transaction_id: UUID) -> tuple[UUID, UUID] | None:
    """(offer, its network) that completed a request. Under Settle."""
    row = await tx.fetchrow(
        "SELECT offer, provider_network FROM platform.attempts"
        " WHERE requester_network = $1 AND requester_transaction = $2 AND state = 'completed'"
        " ORDER BY ordinal DESC LIMIT 1",
        network_id,
        transaction_id,
    )
    return (row["offer"], row["provider_network"]) if row is not None else None


async def wait_turn(tx: Tx, network_id: UUID) -> None:
    """One rating of a network after the other, until this transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 7))", str(network_id))


async def weight_given(tx: Tx, network_id: UUID, provider_network: UUID, since: datetime) -> int:
    """The weight, in millionths, of what a network said of another one's answers. Under Settle."""
    given: int = await tx.fetchval(
        "SELECT coalesce(sum(f.weight_ppm), 0)::bigint FROM tenant.feedback f"
        " JOIN platform.attempts a ON a.requester_network = f.network_id"
        " AND a.requester_transaction = f.transaction_id AND a.state = 'completed'"
        " WHERE f.network_id = $1 AND a.provider_network = $2 AND f.created_at > $3",
        network_id,
        provider_network,
        since,
    )
    return given


async def insert(
    tx: Tx,
    *,
    network_id: UUID,
    transaction_id: UUID,
    user_id: UUID,
    score_ppm: int,
    weight_ppm: int,
    reason: str | None,
    at: datetime,
) -> bool:
    """False if the request has its feedback."""
    status = await tx.execute(
        "INSERT INTO tenant.feedback (network_id, transaction_id, user_id, score_ppm, weight_ppm, reason,"
        " created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (network_id, transaction_id) DO NOTHING",
        network_id,
        transaction_id,
        user_id,
        score_ppm,
        weight_ppm,
        reason,
        at,
    )
    return status == "INSERT 0 1"


async def past(tx: Tx, since: datetime, limit: int) -> list[Rating]:
    """The latest feedback with weight. Under System."""
    rows = await tx.fetch(
        "SELECT a.offer, f.score_ppm, f.weight_ppm, f.created_at FROM tenant.feedback f"
        " JOIN platform.attempts a ON a.requester_network = f.network_id"
        " AND a.requester_transaction = f.transaction_id AND a.state = 'completed'"
        " WHERE f.created_at > $1 AND f.weight_ppm > 0 ORDER BY f.created_at DESC LIMIT $2",
        since,
        limit,
    )
    return [Rating(**dict(row)) for row in rows]
