"""The SQL of a running request, under Settle(requester[, provider, platform]): one statement for each step.

Locks are taken in one order: the attempt, the transactions of both sides, then (by payments) the hold and
the balances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.errors import LedgerError
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


_REQUESTER = """
    INSERT INTO tenant.transactions (network_id, side, transaction_id, user_id, device, key_id, state,
    scope, kind,
        model, price_cents, price_unit_tokens, rounding, fee_basis_points, prompt_tokens, completion_tokens,
        total_microcents, fee_microcents, earnings_microcents, attempts, decision_card, idempotency_key,
        created_at)
    VALUES ($1, 'requester', $2, $3, $4, $5, 'PROCESSING', $6, $7, $8, $9, $10, $11, $12, 0, 0, 0, 0, 0, 1,
        $13::text::jsonb, $14, $15)
"""

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

_FINISH = """
    WITH ended AS (
        UPDATE platform.attempts SET state = $2, error_code = $3::text, observed_tokens = $4, claimed_tokens
        = $5,
            latency_ms = $6::int, tokens_per_second = $7, ended_at = $8::timestamptz,
            quality_ppm = $19::int, verdict = $20
        WHERE attempt_id = $1 AND state IN ('dispatched', 'accepted')
        RETURNING requester_network, requester_transaction, provider_network, provider_transaction
    ), sides AS (
        SELECT requester_network AS network_id, 'requester' AS side, requester_transaction AS transaction_id
        FROM ended
        UNION ALL
        SELECT provider_network, 'provider', provider_transaction FROM ended WHERE provider_transaction IS
        NOT NULL
    ), moved AS (
        UPDATE tenant.transactions t SET state = $9::text, error_code = $3::text, prompt_tokens = $10,
            completion_tokens = $11, total_microcents = $12, fee_microcents = $13, earnings_microcents = $14,
            latency_ms = $6::int, ended_at = $8::timestamptz, quality_ppm = $19::int
        FROM sides s
        WHERE t.network_id = s.network_id AND t.side = s.side AND t.transaction_id = s.transaction_id
            AND t.state = ANY ($15::text[])
        RETURNING t.side, t.user_id
    ), stored AS (
        INSERT INTO tenant.results (network_id, transaction_id, user_id, nonce, sealed, created_at,
        expires_at)
        SELECT e.requester_network, e.requester_transaction, m.user_id, $16::bytea, $17::bytea,
        $8::timestamptz,
            $18::timestamptz
        FROM ended e, moved m
        WHERE m.side = 'requester' AND $17::bytea IS NOT NULL
    )
    SELECT (SELECT count(*) FROM ended) AS ended, (SELECT count(*) FROM moved WHERE side = 'requester') AS
    moved
"""


async def insert_transaction(tx: Tx, new: NewTransaction, attempt: NewAttempt) -> None:
    """The requester's row, PROCESSING with its first attempt."""
    offer = attempt.offer
    await tx.execute(
        _REQUESTER,
        new.network_id,
        new.transaction_id,
        new.user_id,
        new.device,
        new.key_id,
        new.scope,
        new.kind,
        new.model,
        offer.price_cents,
        offer.price_unit_tokens,
        offer.rounding,
        attempt.fee_basis_points,
        attempt.decision_card,
        new.idempotency_key,
        new.created_at,
    )


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


async def finish(
    tx: Tx, attempt_id: UUID, ending: Ending, bill: Bill, result: SealedResult | None = None
) -> bool:
    """End the last attempt and both sides of the transaction. False, and nothing changed, if it had ended
    before. LedgerError if something is to be paid and the requester's row does not say so."""
    row = await tx.fetchrow(
        _FINISH,
        attempt_id,
        ending.attempt_state,
        ending.error_code,
        ending.observed_tokens,
        ending.claimed_tokens,
        ending.latency_ms,
        ending.tokens_per_second,
        ending.at,
        bill.state.value,
        bill.prompt_tokens,
        bill.completion_tokens,
        bill.total_microcents,
        bill.fee_microcents,
        bill.earnings_microcents,
        sources(bill.state),
        result.nonce if result is not None else None,
        result.sealed if result is not None else None,
        result.expires_at if result is not None else None,
        ending.quality_ppm,
        ending.verdict,
    )
    if row is None or row["ended"] != 1:
        return False
    if row["moved"] != 1 and bill.total_microcents:
        raise LedgerError("a payment without its transaction")
    return True


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
