"""All SQL of payment methods; Network scope."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from asyncpg.exceptions import UniqueViolationError
from piccolo.columns import Column

from yggdrasil.db import Tx
from yggdrasil.errors import Conflict
from yggdrasil.payments.tables import PaymentMethods
from yggdrasil.payments.views import Method

TRIES_MAX: Final = 5

_SHOWN: Final[tuple[Column, ...]] = (
    PaymentMethods.method_id,
    PaymentMethods.gateway,
    PaymentMethods.kind,
    PaymentMethods.purpose,
    PaymentMethods.state,
    PaymentMethods.is_default,
    PaymentMethods.label,
    PaymentMethods.created_at,
)


async def insert(
    tx: Tx,
    *,
    network_id: UUID,
    method_id: UUID,
    user_id: UUID,
    gateway: str,
    gateway_token: str,
    kind: str,
    purpose: str,
    label: str,
    make_default: bool,
    methods_max: int,
    rows_max: int,
    at: datetime,
) -> Method | None:
    """Keep a method, unverified. The first one is the default. None if the network has as many as it may."""
    if make_default:
        await tx.execute(
            "UPDATE tenant.payment_methods SET is_default = false WHERE network_id = $1 AND is_default",
            network_id,
        )
    try:
        row = await tx.fetchrow(
            """
            WITH held AS (
                SELECT count(*) AS rows, count(*) FILTER (WHERE state <> 'removed') AS live,
                    coalesce(bool_or(is_default), false) AS has_default
                FROM tenant.payment_methods WHERE network_id = $1
            )
            INSERT INTO tenant.payment_methods (network_id, method_id, user_id, gateway, gateway_token,
                kind, purpose, state, tries, is_default, label, created_at, updated_at)
            SELECT $1, $2, $3, $4, $5, $6, $7, 'unverified', 0, NOT has_default, $8, $9, $9
            FROM held WHERE live < $10 AND rows < $11
            RETURNING method_id, gateway, kind, purpose, state, is_default, label, created_at
            """,
            network_id,
            method_id,
            user_id,
            gateway,
            gateway_token,
            kind,
            purpose,
            label,
            at,
            methods_max,
            rows_max,
        )
    except UniqueViolationError as error:
        raise Conflict("another method became the default at the same moment; try again") from error
    return None if row is None else Method(**row)


async def listed(
    tx: Tx, *, network_id: UUID, after: tuple[datetime, UUID] | None, limit: int
) -> list[Method]:
    """Methods that were not removed, by (created_at, method_id), beginning behind `after`."""
    query = (
        PaymentMethods.select(*_SHOWN)
        .where(PaymentMethods.network_id == network_id, PaymentMethods.state != "removed")
        .order_by(PaymentMethods.created_at, PaymentMethods.method_id)
        .limit(limit)
    )
    if after is not None:
        at, method_id = after
        query = query.where(
            (PaymentMethods.created_at > at)
            | ((PaymentMethods.created_at == at) & (PaymentMethods.method_id > method_id))
        )
    return [Method(**row) for row in await tx.run(query)]


async def get(tx: Tx, *, network_id: UUID, method_id: UUID) -> Method | None:
    """A method that was not removed."""
    query = PaymentMethods.select(*_SHOWN).where(
        PaymentMethods.network_id == network_id,
        PaymentMethods.method_id == method_id,
        PaymentMethods.state != "removed",
    )
    rows = await tx.run(query)
    return Method(**rows[0]) if rows else None


async def begin_try(tx: Tx, *, network_id: UUID, method_id: UUID, at: datetime) -> dict[str, Any] | None:
    """Count one try at verification; (gateway, gateway_token, kind), or None if there is nothing to try."""
    row = await tx.fetchrow(
        """
        UPDATE tenant.payment_methods SET tries = tries + 1, updated_at = $3
        WHERE network_id = $1 AND method_id = $2 AND state IN ('unverified', 'pending') AND tries < $4
        RETURNING gateway, gateway_token, kind
        """,
        network_id,
        method_id,
        at,
        TRIES_MAX,
    )
    return None if row is None else dict(row)


async def end_try(
    tx: Tx,
    *,
    network_id: UUID,
    method_id: UUID,
    state: Literal["unverified", "pending", "verified"],
    at: datetime,
) -> bool:
    """Write what the gateway said, unless the method was verified or removed meanwhile."""
    tag = await tx.execute(
        """
        UPDATE tenant.payment_methods SET state = $3, updated_at = $4
        WHERE network_id = $1 AND method_id = $2 AND state IN ('unverified', 'pending')
        """,
        network_id,
        method_id,
        state,
        at,
    )
    return tag == "UPDATE 1"


async def remove(tx: Tx, *, network_id: UUID, method_id: UUID, at: datetime) -> bool:
    """Mark a method removed; the row stays, because payments name it."""
    tag = await tx.execute(
        """
        UPDATE tenant.payment_methods SET state = 'removed', is_default = false, updated_at = $3
        WHERE network_id = $1 AND method_id = $2 AND state <> 'removed'
        """,
        network_id,
        method_id,
        at,
    )
    return tag == "UPDATE 1"


async def remove_of(tx: Tx, *, network_id: UUID, user_id: UUID, at: datetime) -> None:
    """Mark every method that this member added removed."""
    await tx.execute(
        """
        UPDATE tenant.payment_methods SET state = 'removed', is_default = false, updated_at = $3
        WHERE network_id = $1 AND user_id = $2 AND state <> 'removed'
        """,
        network_id,
        user_id,
        at,
    )
