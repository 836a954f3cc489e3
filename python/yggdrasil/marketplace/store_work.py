"""The SQL of what a person shares, and of what his providers were asked for and got, by hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from yggdrasil.db import Tx

HOURS_READ_MAX = 24 * 8


class SharedDevice(msgspec.Struct, frozen=True):
    """A device of the caller, and for whom it works: `nobody` if it is no provider."""

    device_id: str
    audience: str
    provider_id: UUID | None
    status: str | None
    capacity_jobs: int | None


async def shared_devices(
    tx: Tx, network_id: UUID, user_id: UUID, *, after: str | None, limit: int
) -> list[SharedDevice]:
    """All devices of the person, by their id."""
    rows = await tx.fetch(
        "SELECT d.device_id, coalesce(p.audience, 'nobody') AS audience, p.id AS provider_id, p.status,"
        " p.capacity_jobs FROM tenant.devices d LEFT JOIN tenant.providers p"
        " ON p.network_id = d.network_id AND p.device = d.id"
        " WHERE d.network_id = $1 AND d.user_id = $2 AND ($3::text IS NULL OR d.device_id > $3)"
        " ORDER BY d.device_id LIMIT $4",
        network_id,
        user_id,
        after,
        limit,
    )
    return [SharedDevice(**dict(row)) for row in rows]


async def is_under_way(tx: Tx, network_id: UUID) -> bool:
    """Whether a device of the network works for another one. Under Settle(network)."""
    return bool(
        await tx.fetchval(
            "SELECT EXISTS (SELECT FROM tenant.transactions WHERE network_id = $1 AND side = 'provider'"
            " AND state IN ('PENDING', 'PROCESSING') AND scope = 'market')",
            network_id,
        )
    )


async def add(tx: Tx, rows: Sequence[tuple[UUID, UUID, datetime, str, int]]) -> None:
    """(network, provider, hour, reason, requests) on top of what is there; providers that are gone are left
    out. Under System."""
    await tx.execute(
        "INSERT INTO tenant.provider_work (network_id, provider, hour, reason, requests)"
        " SELECT w.* FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[])"
        " AS w (network_id, provider, hour, reason, requests)"
        " JOIN tenant.providers p ON p.network_id = w.network_id AND p.id = w.provider"
        " ON CONFLICT (network_id, provider, hour, reason)"
        " DO UPDATE SET requests = provider_work.requests + EXCLUDED.requests",
        *([row[column] for row in rows] for column in range(5)),
    )


async def prune(tx: Tx, before: datetime) -> int:
    """Under System."""
    status = await tx.execute("DELETE FROM tenant.provider_work WHERE hour < $1", before)
    return int(status.rsplit(" ", 1)[-1])


async def of_provider(
    tx: Tx, network_id: UUID, provider: UUID, since: datetime
) -> list[tuple[datetime, dict[str, int]]]:
    """The counts of each hour, newest first."""
    rows = await tx.fetch(
        "SELECT hour, reason, requests FROM tenant.provider_work"
        " WHERE network_id = $1 AND provider = $2 AND hour >= $3 ORDER BY hour DESC, reason LIMIT $4",
        network_id,
        provider,
        since,
        HOURS_READ_MAX * 32,
    )
    hours: dict[datetime, dict[str, int]] = {}
    for row in rows:
        hours.setdefault(row["hour"], {})[row["reason"]] = row["requests"]
    return list(hours.items())
