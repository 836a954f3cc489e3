"""The SQL of a running request that is not done in batches, under Settle(requester[, provider, platform]).

Locks are taken in one order: the attempt, the hold, the balances (by payments); the transactions of both
sides belong to whoever holds the attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.marketplace.requests import Kind, MarketScope, Offer, State, sources

OPEN_LISTED_MAX = 500


@dataclass(frozen=True, slots=True)
class NewTransaction:
    """What the requester's row holds from the start."""

    network_id: UUID
    transaction_id: UUID
    user_id: UUID
    device: UUID | None
    key_id: UUID | None
    scope: MarketScope
    kind: Kind
    model: str
    idempotency_key: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """One dispatch. `provider_transaction` is None if the requester serves himself."""

    attempt_id: UUID
    ordinal: int
    hold_id: UUID | None
    provider_transaction: UUID | None
    offer: Offer
    fee_basis_points: int
    decision_card: str
    node_id: UUID
    boot_id: UUID
    started_at: datetime
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends, and with `state` the transaction."""

    attempt_state: str
    error_code: str | None
    observed_tokens: int | None
    claimed_tokens: int | None
    latency_ms: int | None
    tokens_per_second: int | None
    at: datetime
    quality_ppm: int | None = None
    """What was judged of the answer, in millionths."""
    verdict: str | None = None
    """Which marks lowered it; of a failure, `broke_off` if the requester had seen some of it."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What both sides' rows say in the end."""

    state: State
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_microcents: int = 0
    fee_microcents: int = 0
    earnings_microcents: int = 0


@dataclass(frozen=True, slots=True)
class SealedResult:
    """What is stored of the answer."""

    nonce: bytes
    sealed: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that has not ended, as the reconciler sees it."""

    attempt_id: UUID
    requester_network: UUID
    requester_transaction: UUID
    hold_id: UUID | None
    provider_network: UUID
    boot_id: UUID
    deadline_at: datetime


_DISPATCH = """
    WITH provider AS (
        INSERT INTO tenant.transactions (network_id, side, transaction_id, user_id, device, state, scope,
        kind,
            model, price_cents, price_unit_tokens, rounding, fee_basis_points, prompt_tokens,
            completion_tokens,
            total_microcents, fee_microcents, earnings_microcents, attempts, created_at)
        SELECT $6::uuid, 'provider', $7::uuid, $15::uuid, $10::uuid, 'PROCESSING', $16::text, $17::text,
        $18::text,
            $19::bigint, $20::int, $21::text, $22::int, 0, 0, 0, 0, 0, 1, $13::timestamptz
        WHERE $7::uuid IS NOT NULL
    )
    INSERT INTO platform.attempts (attempt_id, ordinal, requester_network, requester_transaction, hold_id,
        provider_network, provider_transaction, provider, offer, device, state, node_id, boot_id, started_at,
        deadline_at)
    VALUES ($1, $2, $3, $4, $5, $6::uuid, $7::uuid, $8, $9, $10::uuid, 'dispatched', $11, $12,
    $13::timestamptz, $14)
"""

_END_ATTEMPT = """
    WITH ended AS (
        UPDATE platform.attempts SET state = $2, error_code = $3, observed_tokens = $4, claimed_tokens = $5,
            latency_ms = $6, tokens_per_second = $7, ended_at = $8::timestamptz, quality_ppm = $10,
            verdict = $11
        WHERE attempt_id = $1 AND state IN ('dispatched', 'accepted')
        RETURNING provider_network, provider_transaction
    ), provider AS (
        UPDATE tenant.transactions t SET state = 'FAILED', error_code = $3, ended_at = $8::timestamptz
        FROM ended e
        WHERE t.network_id = e.provider_network AND t.side = 'provider'
            AND t.transaction_id = e.provider_transaction AND t.state = ANY ($9::text[])
    )
    SELECT count(*) FROM ended
"""


async def insert_attempt(tx: Tx, new: NewTransaction, attempt: NewAttempt) -> None:
    """The attempt, and the provider's row if there is another side."""
    offer = attempt.offer
    await tx.execute(
        _DISPATCH,
        attempt.attempt_id,
        attempt.ordinal,
        new.network_id,
        new.transaction_id,
        attempt.hold_id,
        offer.network_id,
        attempt.provider_transaction,
        offer.provider,
        offer.id,
        offer.device,
        attempt.node_id,
        attempt.boot_id,
        attempt.started_at,
        attempt.deadline_at,
        offer.user_id,
        new.scope,
        new.kind,
        new.model,
        offer.price_cents,
        offer.price_unit_tokens,
        offer.rounding,
        attempt.fee_basis_points,
    )


async def move_to_next(tx: Tx, new: NewTransaction, attempt: NewAttempt) -> None:
    """The requester's row follows a failover: the price and the decision are the next offer's."""
    offer = attempt.offer
    await tx.execute(
        "UPDATE tenant.transactions SET attempts = $3, price_cents = $4, price_unit_tokens = $5,"
        " rounding = $6, fee_basis_points = $7, decision_card = $8::text::jsonb"
        " WHERE network_id = $1 AND side = 'requester' AND transaction_id = $2 AND state = 'PROCESSING'",
        new.network_id,
        new.transaction_id,
        attempt.ordinal,
        offer.price_cents,
        offer.price_unit_tokens,
        offer.rounding,
        attempt.fee_basis_points,
        attempt.decision_card,
    )


async def end_attempt(tx: Tx, attempt_id: UUID, ending: Ending) -> bool:
    """End an attempt that another one follows; the provider's row fails with it. False if it had ended
    before."""
    ended = await tx.fetchval(
        _END_ATTEMPT,
        attempt_id,
        ending.attempt_state,
        ending.error_code,
        ending.observed_tokens,
        ending.claimed_tokens,
        ending.latency_ms,
        ending.tokens_per_second,
        ending.at,
        sources(State.FAILED),
        ending.quality_ppm,
        ending.verdict,
    )
    return bool(ended)


async def attempt_state(tx: Tx, attempt_id: UUID) -> str | None:
    state: str | None = await tx.fetchval(
        "SELECT state FROM platform.attempts WHERE attempt_id = $1 FOR UPDATE", attempt_id
    )
    return state


async def open_attempts(
    tx: Tx, *, live_boots: Sequence[UUID], deadline_before: datetime
) -> list[OpenAttempt]:
    """Attempts of boots that are not alive, or past their deadline. Under System."""
    rows = await tx.fetch(
        "SELECT attempt_id, requester_network, requester_transaction, hold_id, provider_network, boot_id,"
        " deadline_at FROM platform.attempts WHERE state IN ('dispatched', 'accepted')"
        " AND (deadline_at < $1 OR NOT boot_id = ANY ($2::uuid[])) ORDER BY deadline_at LIMIT $3",
        deadline_before,
        list(live_boots),
        OPEN_LISTED_MAX,
    )
    return [OpenAttempt(**dict(row)) for row in rows]
