"""All SQL of API keys: under Network for its own, under Identity(network) for the lookup, System for uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.users.tables import ApiKeyRow


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a key may do, from its making to its end. None: no limit of that kind."""

    spend_limit_microcents: int | None = None
    monthly_limit_microcents: int | None = None
    models: tuple[str, ...] | None = None
    expires_at: datetime | None = None


NO_TERMS = KeyTerms()


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that is not revoked, as the lookup sees it. `until`: when the text that was shown ends."""

    user_id: UUID
    models: tuple[str, ...] | None
    until: datetime | None


async def count_keys(tx: Tx, network_id: UUID, user_id: UUID) -> int:
    count: int = await tx.fetchval(
        "SELECT count(*) FROM tenant.api_keys WHERE network_id = $1 AND user_id = $2 AND revoked_at IS NULL",
        network_id,
        user_id,
    )
    return count


async def insert_key(
    tx: Tx,
    network_id: UUID,
    key_id: UUID,
    user_id: UUID,
    name: str,
    digest: bytes,
    now: datetime,
    terms: KeyTerms = NO_TERMS,
) -> None:
    await tx.run(
        ApiKeyRow.insert(
            ApiKeyRow(
                network_id=network_id,
                key_id=key_id,
                user_id=user_id,
                name=name,
                secret_digest=digest,
                created_at=now,
                spend_limit_microcents=terms.spend_limit_microcents,
                monthly_limit_microcents=terms.monthly_limit_microcents,
                models=None if terms.models is None else list(terms.models),
                expires_at=terms.expires_at,
            )
        )
    )


_SHOWN = """
    SELECT k.key_id, k.name, k.created_at, k.spend_limit_microcents, k.monthly_limit_microcents, k.models,
        k.expires_at, k.last_used_at, k.rotated_at, k.previous_until,
        coalesce(t.spent_microcents, 0) AS spent_microcents,
        coalesce(t.held_microcents, 0) AS held_microcents,
        coalesce(m.spent_microcents, 0) AS month_spent_microcents,
        coalesce(m.held_microcents, 0) AS month_held_microcents
    FROM tenant.api_keys k
    LEFT JOIN tenant.key_spend t
        ON t.network_id = k.network_id AND t.key_id = k.key_id AND t.period = 'total'
    LEFT JOIN tenant.key_spend m ON m.network_id = k.network_id AND m.key_id = k.key_id AND m.period = $3
    WHERE k.network_id = $1 AND k.user_id = $2 AND k.revoked_at IS NULL
"""


async def select_keys(
    tx: Tx, network_id: UUID, user_id: UUID, month: str, after: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """Keys that are not revoked with what they spent, oldest first, from the one after `after` on."""
    rows = await tx.fetch(
        _SHOWN + "AND ($4::uuid IS NULL OR (k.created_at, k.key_id) > (SELECT p.created_at, p.key_id"  # noqa: S608
        " FROM tenant.api_keys p WHERE p.network_id = $1 AND p.key_id = $4))"
        " ORDER BY k.created_at, k.key_id LIMIT $5",
        network_id,
        user_id,
        month,
        after,
        limit,
    )
    return [dict(row) for row in rows]


async def select_shown_key(
    tx: Tx, network_id: UUID, user_id: UUID, month: str, key_id: UUID
) -> dict[str, Any] | None:
    """One of them."""
    row = await tx.fetchrow(_SHOWN + "AND k.key_id = $4", network_id, user_id, month, key_id)
    return None if row is None else dict(row)


async def rotate_key(
    tx: Tx,
    network_id: UUID,
    key_id: UUID,
    digest: bytes,
    now: datetime,
    previous_until: datetime | None,
) -> bool:
    """Give a key another text; the present one works on until `previous_until`, and not at all without it.
    False for a key that is absent, foreign, revoked or expired.
    """
    status = await tx.execute(
        "UPDATE tenant.api_keys SET secret_digest = $3, rotated_at = $4, previous_until = $5::timestamptz,"
        " previous_digest = CASE WHEN $5::timestamptz IS NOT NULL THEN secret_digest END"
        " WHERE network_id = $1 AND key_id = $2 AND revoked_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > $4)",
        network_id,
        key_id,
        digest,
        now,
        previous_until,
    )
    return status.endswith(" 1")


async def revoke_key(tx: Tx, network_id: UUID, key_id: UUID, now: datetime) -> bool:
    """False for a key that is absent, foreign or revoked before."""
    status = await tx.execute(
        "UPDATE tenant.api_keys SET revoked_at = $3 "
        "WHERE network_id = $1 AND key_id = $2 AND revoked_at IS NULL",
        network_id,
        key_id,
        now,
    )
    return status.endswith(" 1")


async def select_key(tx: Tx, network_id: UUID, key_id: UUID, digest: bytes) -> FoundKey | None:
    """The key, not revoked, whose present or previous text has this digest, under the network it claims.

    The database compares: a known key with a wrong secret comes back as what never was, at the same cost.
    That it does not do so in constant time tells nothing, for nobody chooses the bytes of a SHA-256.
    """
    row = await tx.fetchrow(
        "SELECT user_id, models,"
        " CASE WHEN secret_digest = $3 THEN expires_at ELSE least(expires_at, previous_until) END AS until"
        " FROM tenant.api_keys WHERE network_id = $1 AND key_id = $2 AND revoked_at IS NULL"
        " AND (secret_digest = $3 OR previous_digest = $3)",
        network_id,
        key_id,
        digest,
    )
    if row is None:
        return None
    models = row["models"]
    return FoundKey(row["user_id"], None if models is None else tuple(models), row["until"])


async def note_uses(tx: Tx, uses: Mapping[tuple[UUID, UUID], datetime]) -> int:
    """Move the last use of many (network, key) forward; never back. Under System("key-use")."""
    keys = list(uses)
    status = await tx.execute(
        "UPDATE tenant.api_keys k SET last_used_at = u.at"
        " FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS u (network_id, key_id, at)"
        " WHERE k.network_id = u.network_id AND k.key_id = u.key_id"
        " AND (k.last_used_at IS NULL OR k.last_used_at < u.at)",
        [network_id for network_id, _ in keys],
        [key_id for _, key_id in keys],
        [uses[key] for key in keys],
    )
    return int(status.rpartition(" ")[2])
