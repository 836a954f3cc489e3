"""All SQL of the ledger: balances, holds and entries. Each use case is one statement, so a round trip.
Holds are made and ended by the functions of migration 0011, which batches of the marketplace use too.

Locks are taken in one order: the hold (or top-up) row, then balances by (network_id, account). A new hold is
the exception: nobody else can lock what nobody knows yet, and so a wallet without cover costs no dead row.
(Its id used again while the first is being ended is a bug, and PostgreSQL refuses one of the two.)
Correctness rests on these locks and on constraints, never on the isolation level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from asyncpg.exceptions import NumericValueOutOfRangeError, PostgresError, UniqueViolationError

from yggdrasil.db import Tx
from yggdrasil.errors import Conflict, LedgerError, MoneyOverflow
from yggdrasil.kernel import CURRENCY
from yggdrasil.payments.conditions import ledger_error
from yggdrasil.payments.ledger import Leg, month_of

HOLDS_LISTED_MAX: Final = 1000

HoldEnd = Literal["voided", "expired"]
Settled = Literal["posted", "already", "ended"]


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that nobody may be going to end."""

    network_id: UUID
    hold_id: UUID
    owner_boot: UUID
    deadline_at: datetime


async def insert_hold(
    tx: Tx,
    *,
    network_id: UUID,
    hold_id: UUID,
    transaction_id: UUID,
    amount_microcents: int,
    owner_node: UUID,
    owner_boot: UUID,
    deadline_at: datetime,
    at: datetime,
    key_id: UUID | None = None,
) -> str:
    """Reserve an amount of the wallet if a verified method for spending exists and that much is free; with
    a key, also of what the key may spend in all and this month. `held`, or the reason why not: after that,
    leave the transaction."""
    try:
        outcome: str = await tx.fetchval(
            "SELECT platform.take_hold($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            network_id,
            hold_id,
            transaction_id,
            amount_microcents,
            owner_node,
            owner_boot,
            deadline_at,
            at,
            key_id,
            month_of(at, key_id),
        )
    except UniqueViolationError as error:
        raise Conflict("hold_id: was used before", field="hold_id") from error
    return outcome


async def end_hold(tx: Tx, *, network_id: UUID, hold_id: UUID, state: HoldEnd, at: datetime) -> bool:
    """Give a pending hold back to the wallet. False if it had ended before, or is none of this network's."""
    outcome: str = await _end(tx, network_id, hold_id, state, at, None, None, None, None, None)
    return outcome == state


async def post_settlement(
    tx: Tx,
    *,
    transfer_id: UUID,
    requester_network: UUID,
    hold_id: UUID,
    total_microcents: int,
    provider_network: UUID,
    fee_microcents: int,
    earnings_microcents: int,
    at: datetime,
) -> Settled:
    """Turn a pending hold that covers the total into a posted settlement: "posted", "already" if this very
    one was posted before, "ended" if the hold has ended otherwise; then nothing changes. LedgerError for a
    bug's wish."""
    settled: Settled = await _end(
        tx,
        requester_network,
        hold_id,
        "posted",
        at,
        transfer_id,
        total_microcents,
        provider_network,
        fee_microcents,
        earnings_microcents,
    )
    return settled


async def _end(tx: Tx, *values: object) -> Any:
    try:
        outcomes: list[str] = await tx.fetchval(
            "SELECT platform.end_holds(ARRAY[ROW(NULL, $1::uuid, $2::uuid, $3::text, $4::timestamptz,"
            " $5::uuid, $6::bigint, $7::uuid, $8::bigint, $9::bigint)::platform.hold_end])",
            *values,
        )
    except PostgresError as error:
        known = ledger_error(error)
        if known is None:
            raise
        raise known from error
    return outcomes[0]


async def post_topup(
    tx: Tx, *, network_id: UUID, payment_id: UUID, gateway_ref: str, legs: Sequence[Leg], at: datetime
) -> bool:
    """Move an open top-up to `succeeded` and its amount into the wallet; False if it had ended.

    A top-up given up as `not_charged` is still open to the gateway's later word that it was.
    """
    try:
        row = await tx.fetchrow(
            """
            WITH done AS (
                UPDATE tenant.payments
                SET state = 'succeeded', gateway_ref = $3, failure_code = NULL, updated_at = $4
                WHERE network_id = $1 AND payment_id = $2 AND amount_microcents = $10
                  AND (state IN ('charging', 'unknown')
                    OR (state = 'failed' AND failure_code = 'not_charged'))
                RETURNING amount_microcents
            ), wallet AS (
                INSERT INTO tenant.balances AS b (network_id, account, posted_microcents, held_microcents,
                    currency)
                SELECT $1, 'wallet', amount_microcents, 0, $5 FROM done
                ON CONFLICT (network_id, account)
                    DO UPDATE SET posted_microcents = b.posted_microcents + excluded.posted_microcents
                RETURNING 1
            ), written AS (
                INSERT INTO tenant.entries (network_id, transfer_id, leg, account, amount_microcents,
                    currency, kind, at)
                SELECT l.network_id, $2, l.leg, l.account, l.amount, $5, 'topup', $4
                FROM unnest($6::uuid[], $7::smallint[], $8::text[], $9::bigint[]) AS l (network_id,
                    leg, account, amount),
                    done
                RETURNING 1
            )
            SELECT (SELECT count(*) FROM wallet) AS posted, (SELECT count(*) FROM written) AS written
            """,
            network_id,
            payment_id,
            gateway_ref,
            at,
            CURRENCY,
            *_columns(legs),
            legs[0].amount_microcents,
        )
    except NumericValueOutOfRangeError as error:
        raise MoneyOverflow("amount_cents: the balance would leave the range of the ledger") from error
    if row is None or (row["posted"] and row["written"] != len(legs)):
        raise LedgerError("a top-up without its entries")
    return bool(row["posted"])


async def balances(tx: Tx, network_id: UUID) -> dict[str, tuple[int, int]]:
    """Account -> (posted, held); an account nothing was ever posted to is absent."""
    rows = await tx.fetch(
        "SELECT account, posted_microcents, held_microcents FROM tenant.balances WHERE network_id = $1",
        network_id,
    )
    return {row["account"]: (row["posted_microcents"], row["held_microcents"]) for row in rows}


async def could_hold(
    tx: Tx, network_id: UUID, amount_microcents: int, key_id: UUID | None, at: datetime
) -> str:
    """What `platform.take_hold` would answer now, without a lock and without a hold."""
    outcome: str = await tx.fetchval(
        """
        WITH working AS (
            SELECT p.period, p.most FROM tenant.api_keys k, LATERAL (VALUES
                ('total', k.spend_limit_microcents), ($5::text, k.monthly_limit_microcents)
            ) AS p (period, most)
            WHERE k.network_id = $1 AND k.key_id = $3::uuid AND k.revoked_at IS NULL
              AND (k.expires_at IS NULL OR k.expires_at > $4)
        )
        SELECT CASE
            WHEN NOT EXISTS (
                SELECT FROM tenant.payment_methods
                WHERE network_id = $1 AND state = 'verified' AND purpose IN ('spend', 'both')
            ) THEN 'method'
            WHEN $2::bigint > coalesce((
                SELECT posted_microcents - held_microcents FROM tenant.balances
                WHERE network_id = $1 AND account = 'wallet'
            ), 0) THEN 'cover'
            WHEN $3::uuid IS NOT NULL AND NOT EXISTS (SELECT FROM working) THEN 'key'
            WHEN EXISTS (
                SELECT FROM working w LEFT JOIN tenant.key_spend s
                    ON s.network_id = $1 AND s.key_id = $3::uuid AND s.period = w.period
                WHERE w.most - coalesce(s.held_microcents + s.spent_microcents, 0) < $2::bigint
            ) THEN 'limit'
            ELSE 'held'
        END
        """,
        network_id,
        amount_microcents,
        key_id,
        at,
        month_of(at, key_id),
    )
    return outcome


async def has_method(tx: Tx, network_id: UUID, purpose: Literal["spend", "payout"]) -> bool:
    """Whether a verified method for `purpose` exists."""
    return bool(
        await tx.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM tenant.payment_methods
                WHERE network_id = $1 AND state = 'verified' AND purpose IN ($2, 'both')
            )
            """,
            network_id,
            purpose,
        )
    )


async def stale_holds(tx: Tx, *, live_boots: Sequence[UUID], deadline_before: datetime) -> list[OpenHold]:
    """Pending holds whose process is none of the living, or whose deadline has passed; at most 1000, the
    oldest first, System scope."""
    rows = await tx.fetch(
        """
        SELECT network_id, hold_id, owner_boot, deadline_at FROM tenant.holds
        WHERE state = 'pending' AND (deadline_at < $1 OR NOT owner_boot = ANY ($2::uuid[]))
        ORDER BY deadline_at, network_id, hold_id LIMIT $3
        """,
        deadline_before,
        list(live_boots),
        HOLDS_LISTED_MAX,
    )
    return [OpenHold(**row) for row in rows]


def _columns(legs: Sequence[Leg]) -> tuple[list[UUID], list[int], list[str], list[int]]:
    return (
        [leg.network_id for leg in legs],
        [leg.leg for leg in legs],
        [leg.account.value for leg in legs],
        [leg.amount_microcents for leg in legs],
    )
