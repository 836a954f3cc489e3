"""All SQL of top-ups but the posting, which is the ledger's. Each move names the states it may leave."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.kernel import CURRENCY, MICROCENTS_PER_CENT
from yggdrasil.payments.views import TopUp

DUE_MAX: Final = 100
CLOSED_SECONDS: Final = 600
"""For how long a closed network takes no top-up: if its account could not be deleted, it goes on."""


@dataclass(frozen=True, slots=True)
class DueTopUp:
    """A top-up whose end is owed."""

    network_id: UUID
    payment_id: UUID
    amount_microcents: int
    state: str
    gateway: str
    asked_count: int
    created_at: datetime


async def find(tx: Tx, *, network_id: UUID, idempotency_key: str) -> TopUp | None:
    """The top-up made under this key."""
    row = await tx.fetchrow(
        """
        SELECT payment_id, method_id, amount_microcents, currency, state, failure_code, created_at, updated_at
        FROM tenant.payments WHERE network_id = $1 AND idempotency_key = $2
        """,
        network_id,
        idempotency_key,
    )
    return None if row is None else _view(row)


async def lock_closing(tx: Tx, *, network_id: UUID) -> None:
    """One at a time of the network's new top-ups and its closing, until this transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 11))", str(network_id))


async def close(tx: Tx, *, network_id: UUID, at: datetime) -> None:
    """Close the network; under the lock."""
    await tx.execute("UPDATE tenant.networks SET closed_at = $2 WHERE network_id = $1", network_id, at)


async def is_closed(tx: Tx, *, network_id: UUID, since: datetime) -> bool:
    """Whether the network was closed after `since`; ask under the lock."""
    return bool(
        await tx.fetchval(
            "SELECT closed_at > $2 FROM tenant.networks WHERE network_id = $1", network_id, since
        )
    )


async def open_count(tx: Tx, *, network_id: UUID) -> int:
    """How many top-ups have not ended."""
    return int(
        await tx.fetchval(
            """
            SELECT count(*) FROM tenant.payments
            WHERE network_id = $1 AND state IN ('created', 'charging', 'unknown')
            """,
            network_id,
        )
    )


async def insert(
    tx: Tx,
    *,
    network_id: UUID,
    payment_id: UUID,
    method_id: UUID,
    user_id: UUID,
    amount_microcents: int,
    gateway: str,
    idempotency_key: str,
    ask_at: datetime,
    at: datetime,
) -> bool:
    """`created`; False if the key was taken meanwhile."""
    tag = await tx.execute(
        """
        INSERT INTO tenant.payments (network_id, payment_id, method_id, user_id, amount_microcents,
            currency, state, gateway, idempotency_key, asked_count, ask_at, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, 'created', $7, $8, 0, $9, $10, $10)
        ON CONFLICT (network_id, idempotency_key) DO NOTHING
        """,
        network_id,
        payment_id,
        method_id,
        user_id,
        amount_microcents,
        CURRENCY,
        gateway,
        idempotency_key,
        ask_at,
        at,
    )
    return tag == "INSERT 0 1"


async def begin_charge(
    tx: Tx, *, network_id: UUID, payment_id: UUID, created_after: datetime, ask_at: datetime, at: datetime
) -> str | None:
    """`created` to `charging`: the method's token. None: another call was first, it is late or gone."""
    token: str | None = await tx.fetchval(
        """
        UPDATE tenant.payments p SET state = 'charging', ask_at = $4, updated_at = $5
        FROM tenant.payment_methods m
        WHERE p.network_id = $1 AND p.payment_id = $2 AND p.state = 'created' AND p.created_at > $3
          AND m.network_id = p.network_id AND m.method_id = p.method_id AND m.state = 'verified'
        RETURNING m.gateway_token
        """,
        network_id,
        payment_id,
        created_after,
        ask_at,
        at,
    )
    return token


async def fail(
    tx: Tx, *, network_id: UUID, payment_id: UUID, from_created: bool, failure_code: str, at: datetime
) -> bool:
    """To `failed`, from `created` alone or from where the gateway was asked; False if it had ended."""
    tag = await tx.execute(
        """
        UPDATE tenant.payments SET state = 'failed', failure_code = $4, updated_at = $5
        WHERE network_id = $1 AND payment_id = $2 AND CASE WHEN $3 THEN state = 'created'
            ELSE state IN ('charging', 'unknown') END
        """,
        network_id,
        payment_id,
        from_created,
        failure_code,
        at,
    )
    return tag == "UPDATE 1"


async def defer(tx: Tx, *, network_id: UUID, payment_id: UUID, ask_at: datetime, at: datetime) -> bool:
    """To `unknown`, to be asked about again at `ask_at`. False if it had ended."""
    tag = await tx.execute(
        """
        UPDATE tenant.payments
        SET state = 'unknown', asked_count = asked_count + 1, ask_at = $3, updated_at = $4
        WHERE network_id = $1 AND payment_id = $2 AND state IN ('charging', 'unknown')
        """,
        network_id,
        payment_id,
        ask_at,
        at,
    )
    return tag == "UPDATE 1"


async def due(tx: Tx, *, at: datetime) -> list[DueTopUp]:
    """Open top-ups to ask about at `at`, at most 100, the longest overdue first; System scope."""
    rows = await tx.fetch(
        """
        SELECT network_id, payment_id, amount_microcents, state, gateway, asked_count, created_at
        FROM tenant.payments
        WHERE state IN ('created', 'charging', 'unknown') AND ask_at <= $1
        ORDER BY ask_at, network_id, payment_id LIMIT $2
        """,
        at,
        DUE_MAX,
    )
    return [DueTopUp(**row) for row in rows]


def _view(row: Any) -> TopUp:
    values = dict(row)
    amount_cents = values.pop("amount_microcents") // MICROCENTS_PER_CENT
    return TopUp(amount_cents=amount_cents, **values)
