"""All SQL of the ledger: balances, holds and entries. Each use case is one statement, so a round trip.

Locks are taken in one order: the hold (or top-up) row, then balances by (network_id, account). A new hold is
the exception: nobody else can lock what nobody knows yet, and so a wallet without cover costs no dead row.
(Its id used again while the first is being ended is a bug, and PostgreSQL refuses one of the two.)
Correctness rests on these locks and on constraints, never on the isolation level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

from asyncpg.exceptions import NumericValueOutOfRangeError, UniqueViolationError

from yggdrasil.db import Tx
from yggdrasil.errors import Conflict, LedgerError, MoneyOverflow
from yggdrasil.kernel import CURRENCY
from yggdrasil.payments.ledger import Account, Leg

HOLDS_LISTED_MAX: Final = 1000

HoldEnd = Literal["voided", "expired"]


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that nobody may be going to end."""

    network_id: UUID
    hold_id: UUID
    owner_boot: UUID
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class HoldOutcome:
    """Whether the network may spend at all, whether the amount was free, and what the API key allows.

    After anything but three times True (and no `key_works` of False), leave the transaction.
    """

    may_spend: bool
    covered: bool
    key_works: bool
    within_limits: bool


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
) -> HoldOutcome:
    """Reserve an amount of the wallet if a verified method for spending exists and that much is free.

    With a key: also of what the key may spend in all and this month. Its rows are locked behind the wallet
    and in one order; a limit is checked on the row as it is once locked.
    """
    try:
        row = await tx.fetchrow(
            """
            WITH payer AS (
                SELECT EXISTS (
                    SELECT FROM tenant.payment_methods
                    WHERE network_id = $1 AND state = 'verified' AND purpose IN ('spend', 'both')
                ) AS found
            ), covered AS (
                UPDATE tenant.balances SET held_microcents = held_microcents + $4
                WHERE network_id = $1 AND account = 'wallet'
                  AND posted_microcents - held_microcents >= $4
                  AND (SELECT found FROM payer)
                RETURNING 1
            ), made AS (
                INSERT INTO tenant.holds (network_id, hold_id, transaction_id, amount_microcents, currency,
                    state, owner_node, owner_boot, deadline_at, created_at, key_id, key_month)
                SELECT $1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9, $10::uuid, $11::text FROM covered
                RETURNING 1
            ), working AS (
                SELECT p.period, p.most FROM tenant.api_keys k, LATERAL (VALUES
                    ('total', k.spend_limit_microcents), ($11::text, k.monthly_limit_microcents)
                ) AS p (period, most)
                WHERE k.network_id = $1 AND k.key_id = $10::uuid AND k.revoked_at IS NULL
                  AND (k.expires_at IS NULL OR k.expires_at > $9)
            ), spent AS (
                INSERT INTO tenant.key_spend AS s (network_id, key_id, period, limit_microcents,
                    held_microcents, spent_microcents)
                SELECT $1, $10::uuid, w.period, w.most, $4, 0 FROM working w, covered
                WHERE w.most IS NULL OR w.most >= $4
                ORDER BY w.period
                ON CONFLICT (network_id, key_id, period)
                    DO UPDATE SET held_microcents = s.held_microcents + excluded.held_microcents
                    WHERE s.limit_microcents IS NULL
                       OR s.limit_microcents - s.held_microcents - s.spent_microcents
                           >= excluded.held_microcents
                RETURNING 1
            )
            SELECT (SELECT found FROM payer) AS may_spend, EXISTS (SELECT FROM made) AS covered,
                $10::uuid IS NULL OR EXISTS (SELECT FROM working) AS key_works,
                $10::uuid IS NULL OR (SELECT count(*) FROM spent) = 2 AS within_limits
            """,
            network_id,
            hold_id,
            transaction_id,
            amount_microcents,
            CURRENCY,
            owner_node,
            owner_boot,
            deadline_at,
            at,
            key_id,
            None if key_id is None else _month_of(at),
        )
    except UniqueViolationError as error:
        raise Conflict("hold_id: was used before", field="hold_id") from error
    if row is None:
        raise LedgerError("the hold was not answered")
    return HoldOutcome(**row)


def _month_of(at: datetime) -> str:
    """The month, in UTC, that a hold of this moment counts to, whenever it is settled."""
    return at.astimezone(UTC).strftime("%Y-%m")


async def end_hold(tx: Tx, *, network_id: UUID, hold_id: UUID, state: HoldEnd, at: datetime) -> bool:
    """Give a pending hold back to the wallet. False if it had ended before, or is none of this network's."""
    row = await tx.fetchrow(
        """
        WITH ended AS (
            UPDATE tenant.holds SET state = $3, ended_at = $4
            WHERE network_id = $1 AND hold_id = $2 AND state = 'pending'
            RETURNING amount_microcents, key_id, key_month
        ), released AS (
            UPDATE tenant.balances b SET held_microcents = b.held_microcents - e.amount_microcents
            FROM ended e
            WHERE b.network_id = $1 AND b.account = 'wallet'
            RETURNING e.amount_microcents, e.key_id, e.key_month
        ), unspent AS (
            UPDATE tenant.key_spend s SET held_microcents = s.held_microcents - r.amount_microcents
            FROM released r
            WHERE s.network_id = $1 AND s.key_id = r.key_id AND s.period IN ('total', r.key_month)
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM ended) AS ended, (SELECT count(*) FROM released) AS released,
            (SELECT count(*) FROM unspent) = (SELECT 2 * count(key_id) FROM ended) AS counted
        """,
        network_id,
        hold_id,
        state,
        at,
    )
    if row is None or row["ended"] != row["released"]:
        raise LedgerError("a hold without a wallet")
    if not row["counted"]:
        raise LedgerError("a hold that its key does not count")
    return bool(row["ended"])


async def post_settlement(
    tx: Tx,
    *,
    transfer_id: UUID,
    requester_network: UUID,
    hold_id: UUID,
    total_microcents: int,
    provider_network: UUID,
    earnings_microcents: int,
    legs: Sequence[Leg],
    at: datetime,
) -> bool:
    """Turn a pending hold that covers the total into a posted settlement. False: no such hold, no change.

    Both balance rows are locked in order before either is changed, so that two networks paying each other at
    the same moment cannot wait for one another.
    """
    try:
        row = await tx.fetchrow(
            """
            WITH ended AS (
                UPDATE tenant.holds SET state = 'posted', ended_at = $3, transfer_id = $4
                WHERE network_id = $1 AND hold_id = $2 AND state = 'pending' AND amount_microcents >= $5
                RETURNING amount_microcents, key_id, key_month
            ), locked AS MATERIALIZED (
                SELECT b.network_id FROM tenant.balances b
                WHERE EXISTS (SELECT FROM ended)
                  AND ((b.network_id = $1 AND b.account = 'wallet')
                    OR (b.network_id = $6 AND b.account = 'earnings'))
                ORDER BY b.network_id, b.account
                FOR UPDATE
            ), paid AS (
                UPDATE tenant.balances b
                SET posted_microcents = b.posted_microcents - $5,
                    held_microcents = b.held_microcents - e.amount_microcents
                FROM ended e, (SELECT count(*) FROM locked) l
                WHERE b.network_id = $1 AND b.account = 'wallet'
                RETURNING e.amount_microcents, e.key_id, e.key_month
            ), spent AS (
                UPDATE tenant.key_spend s SET held_microcents = s.held_microcents - p.amount_microcents,
                    spent_microcents = s.spent_microcents + $5
                FROM paid p
                WHERE s.network_id = $1 AND s.key_id = p.key_id AND s.period IN ('total', p.key_month)
                RETURNING 1
            ), earned AS (
                INSERT INTO tenant.balances AS b (network_id, account, posted_microcents, held_microcents,
                    currency)
                SELECT $6, 'earnings', $7, 0, $8 FROM paid
                ON CONFLICT (network_id, account)
                    DO UPDATE SET posted_microcents = b.posted_microcents + excluded.posted_microcents
                RETURNING 1
            ), written AS (
                INSERT INTO tenant.entries (network_id, transfer_id, leg, account, amount_microcents,
                    currency, kind, at)
                SELECT l.network_id, $4, l.leg, l.account, l.amount, $8, 'settlement', $3
                FROM unnest($9::uuid[], $10::smallint[], $11::text[], $12::bigint[]) AS l (network_id,
                    leg, account, amount),
                    paid
                RETURNING 1
            )
            SELECT (SELECT count(*) FROM ended) AS ended, (SELECT count(*) FROM earned) AS earned,
                (SELECT count(*) FROM written) AS written,
                (SELECT count(*) FROM spent) = (SELECT 2 * count(key_id) FROM ended) AS counted
            """,
            requester_network,
            hold_id,
            at,
            transfer_id,
            total_microcents,
            provider_network,
            earnings_microcents,
            CURRENCY,
            *_columns(legs),
        )
    except UniqueViolationError as error:
        raise LedgerError("transfer_id: was used for another settlement") from error
    except NumericValueOutOfRangeError as error:
        raise MoneyOverflow("earnings_microcents: the balance would leave the range of the ledger") from error
    if row is None or (row["ended"] and (row["earned"] != 1 or row["written"] != len(legs))):
        raise LedgerError("a hold without a wallet")
    if not row["counted"]:
        raise LedgerError("a hold that its key does not count")
    return bool(row["ended"])


@dataclass(frozen=True, slots=True)
class HoldState:
    """How a hold stands: pending, posted by a transfer, voided or expired."""

    state: str
    amount_microcents: int
    transfer_id: UUID | None


async def hold_state(tx: Tx, *, network_id: UUID, hold_id: UUID) -> HoldState | None:
    """None if the network has no such hold."""
    row = await tx.fetchrow(
        """
        SELECT state, amount_microcents, transfer_id FROM tenant.holds
        WHERE network_id = $1 AND hold_id = $2
        """,
        network_id,
        hold_id,
    )
    return None if row is None else HoldState(**row)


async def legs_of(tx: Tx, *, transfer_id: UUID, networks: Sequence[UUID]) -> set[Leg]:
    """The entries a transfer left in these networks."""
    rows = await tx.fetch(
        """
        SELECT network_id, leg, account, amount_microcents FROM tenant.entries
        WHERE network_id = ANY ($1::uuid[]) AND transfer_id = $2
        """,
        list(networks),
        transfer_id,
    )
    return {
        Leg(row["network_id"], row["leg"], Account(row["account"]), row["amount_microcents"]) for row in rows
    }


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
) -> HoldOutcome:
    """What `insert_hold` would answer now, without a lock and without a hold."""
    row = await tx.fetchrow(
        """
        WITH working AS (
            SELECT p.period, p.most FROM tenant.api_keys k, LATERAL (VALUES
                ('total', k.spend_limit_microcents), ($5::text, k.monthly_limit_microcents)
            ) AS p (period, most)
            WHERE k.network_id = $1 AND k.key_id = $3::uuid AND k.revoked_at IS NULL
              AND (k.expires_at IS NULL OR k.expires_at > $4)
        )
        SELECT EXISTS (
                SELECT FROM tenant.payment_methods
                WHERE network_id = $1 AND state = 'verified' AND purpose IN ('spend', 'both')
            ) AS may_spend,
            $2::bigint <= coalesce((
                SELECT posted_microcents - held_microcents FROM tenant.balances
                WHERE network_id = $1 AND account = 'wallet'
            ), 0) AS covered,
            $3::uuid IS NULL OR EXISTS (SELECT FROM working) AS key_works,
            NOT EXISTS (
                SELECT FROM working w LEFT JOIN tenant.key_spend s
                    ON s.network_id = $1 AND s.key_id = $3::uuid AND s.period = w.period
                WHERE w.most - coalesce(s.held_microcents + s.spent_microcents, 0) < $2::bigint
            ) AS within_limits
        """,
        network_id,
        amount_microcents,
        key_id,
        at,
        _month_of(at),
    )
    if row is None:
        raise LedgerError("nobody said what could be held")
    return HoldOutcome(**dict(row))


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
