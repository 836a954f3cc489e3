"""All SQL of API keys: under Network for its own, under Identity(network) for the lookup."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from piccolo.columns.combination import And

from yggdrasil.db import Tx
from yggdrasil.users.tables import ApiKeyRow


async def count_keys(tx: Tx, network_id: UUID, user_id: UUID) -> int:
    count: int = await tx.fetchval(
        "SELECT count(*) FROM tenant.api_keys WHERE network_id = $1 AND user_id = $2 AND revoked_at IS NULL",
        network_id,
        user_id,
    )
    return count


async def insert_key(
    tx: Tx, network_id: UUID, key_id: UUID, user_id: UUID, name: str, digest: bytes, now: datetime
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
            )
        )
    )


async def select_keys(
    tx: Tx, network_id: UUID, user_id: UUID, after: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """Working keys, oldest first, from the one after `after` on."""
    rows = await tx.fetch(
        "SELECT key_id, name, created_at FROM tenant.api_keys k "
        "WHERE network_id = $1 AND user_id = $2 AND revoked_at IS NULL AND ($3::uuid IS NULL OR "
        "(created_at, key_id) > (SELECT p.created_at, p.key_id FROM tenant.api_keys p "
        "WHERE p.network_id = $1 AND p.key_id = $3)) ORDER BY created_at, key_id LIMIT $4",
        network_id,
        user_id,
        after,
        limit,
    )
    return [dict(row) for row in rows]


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


async def select_key(tx: Tx, network_id: UUID, key_id: UUID) -> tuple[UUID, bytes] | None:
    """User and digest of a working key, under the network the key's text claims."""
    query = ApiKeyRow.select(ApiKeyRow.user_id, ApiKeyRow.secret_digest).where(
        And(
            And(ApiKeyRow.network_id == network_id, ApiKeyRow.key_id == key_id),
            ApiKeyRow.revoked_at.is_null(),
        )
    )
    rows = await tx.run(query)
    return (rows[0]["user_id"], bytes(rows[0]["secret_digest"])) if rows else None
