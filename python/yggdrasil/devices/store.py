"""All SQL of the devices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from yggdrasil.db import Tx
from yggdrasil.devices.model import StoredDevice
from yggdrasil.devices.tables import DeviceRow

# Reading devices is a hot path: the text is ready, records are read by position, JSON by one decoder.
# To build these queries anew each time cost half of a request (`rest.device_page` in benches/).
_COLUMNS: Final = (
    "network_id, id, device_id, user_id, name, world, capabilities, hardware, device_key, registered_at,"
    " last_seen_at"
)
_FIND: Final = f"SELECT {_COLUMNS} FROM tenant.devices WHERE network_id = $1 AND device_id = $2"  # noqa: S608
_PAGE: Final = (
    f"SELECT {_COLUMNS} FROM tenant.devices WHERE network_id = $1 AND device_id > $2"  # noqa: S608
    " ORDER BY device_id LIMIT $3"
)
_PAGE_OF_USER: Final = (
    f"SELECT {_COLUMNS} FROM tenant.devices WHERE network_id = $1 AND device_id > $2 AND user_id = $4"  # noqa: S608
    " ORDER BY device_id LIMIT $3"
)
_document = msgspec.json.Decoder(dict[str, Any]).decode


def _device(row: asyncpg.Record) -> StoredDevice:
    """From `_COLUMNS`."""
    return StoredDevice(
        network_id=row[0],
        id=row[1],
        device_id=row[2],
        user_id=row[3],
        name=row[4],
        world=row[5],
        capabilities=_document(row[6]),
        hardware=_document(row[7]),
        device_key=row[8],
        registered_at=row[9],
        last_seen_at=row[10],
    )


async def lock_network(tx: Tx, network_id: UUID) -> None:
    """Registrations of one network go one by one, so that a limit on their number holds."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"devices:{network_id}")


async def count(tx: Tx, network_id: UUID) -> int:
    query = DeviceRow.count().where(DeviceRow.network_id == network_id)
    rows = await tx.run(query)
    return int(rows[0]["count"])


async def insert(tx: Tx, device: StoredDevice, *, capabilities: str, hardware: str) -> None:
    await tx.execute(
        "INSERT INTO tenant.devices (network_id, id, device_id, user_id, name, world, capabilities, hardware,"
        " device_key, registered_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb, $9, $10)",
        device.network_id,
        device.id,
        device.device_id,
        device.user_id,
        device.name,
        device.world,
        capabilities,
        hardware,
        device.device_key,
        device.registered_at,
    )


async def find(tx: Tx, network_id: UUID, device_id: str) -> StoredDevice | None:
    """By the id the person assigned."""
    row = await tx.fetchrow(_FIND, network_id, device_id)
    return _device(row) if row is not None else None


async def page(
    tx: Tx, network_id: UUID, *, user_id: UUID | None, after: str | None, limit: int
) -> list[StoredDevice]:
    """Devices of the network in the order of their ids; those of `user_id` only, if given."""
    behind = after if after is not None else ""
    if user_id is None:
        rows = await tx.fetch(_PAGE, network_id, behind, limit)
    else:
        rows = await tx.fetch(_PAGE_OF_USER, network_id, behind, limit, user_id)
    return [_device(row) for row in rows]


async def update(
    tx: Tx,
    network_id: UUID,
    id_: UUID,
    *,
    name: str | None,
    world: str | None,
    capabilities: str | None,
    hardware: str | None,
) -> bool:
    """Change what is not None; False if the row is gone or not the caller's to change."""
    status = await tx.execute(
        "UPDATE tenant.devices SET name = coalesce($3, name), world = coalesce($4, world),"
        " capabilities = coalesce($5::text::jsonb, capabilities),"
        " hardware = coalesce($6::text::jsonb, hardware)"
        " WHERE network_id = $1 AND id = $2",
        network_id,
        id_,
        name,
        world,
        capabilities,
        hardware,
    )
    return status == "UPDATE 1"


async def delete(tx: Tx, network_id: UUID, id_: UUID) -> bool:
    status = await tx.execute("DELETE FROM tenant.devices WHERE network_id = $1 AND id = $2", network_id, id_)
    return status == "DELETE 1"


async def delete_of(tx: Tx, network_id: UUID, user_id: UUID) -> list[UUID]:
    """A member's devices in the network, all at once, under Identity(network, user); their internal ids."""
    rows = await tx.fetch(
        "DELETE FROM tenant.devices WHERE network_id = $1 AND user_id = $2 RETURNING id", network_id, user_id
    )
    return [row["id"] for row in rows]


async def touch(tx: Tx, seen: Sequence[tuple[UUID, UUID, datetime]]) -> None:
    """Write (network, device, when) of several devices; never backwards."""
    await tx.executemany(
        "UPDATE tenant.devices SET last_seen_at = greatest(last_seen_at, $3)"
        " WHERE network_id = $1 AND id = $2",
        list(seen),
    )
