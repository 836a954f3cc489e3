"""All SQL of the devices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from yggdrasil.db import Tx
from yggdrasil.devices.model import StoredDevice
from yggdrasil.devices.tables import DeviceRow


def _document(value: Any) -> dict[str, Any]:
    return msgspec.json.decode(value, type=dict[str, Any]) if isinstance(value, str | bytes) else dict(value)


def _device(row: dict[str, Any]) -> StoredDevice:
    return StoredDevice(
        network_id=row["network_id"],
        id=row["id"],
        device_id=row["device_id"],
        user_id=row["user_id"],
        name=row["name"],
        world=row["world"],
        capabilities=_document(row["capabilities"]),
        hardware=_document(row["hardware"]),
        device_key=bytes(row["device_key"]),
        registered_at=row["registered_at"],
        last_seen_at=row["last_seen_at"],
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
    query = (
        DeviceRow.select()
        .where((DeviceRow.network_id == network_id) & (DeviceRow.device_id == device_id))
        .limit(1)
    )
    rows = await tx.run(query)
    return _device(rows[0]) if rows else None


async def page(
    tx: Tx, network_id: UUID, *, user_id: UUID | None, after: str | None, limit: int
) -> list[StoredDevice]:
    """Devices of the network in the order of their ids; those of `user_id` only, if given."""
    where: Any = DeviceRow.network_id == network_id
    if user_id is not None:
        where = where & (DeviceRow.user_id == user_id)
    if after is not None:
        where = where & (DeviceRow.device_id > after)
    rows = await tx.run(DeviceRow.select().where(where).order_by(DeviceRow.device_id).limit(limit))
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


async def touch(tx: Tx, seen: Sequence[tuple[UUID, UUID, datetime]]) -> None:
    """Write (network, device, when) of several devices; never backwards."""
    await tx.executemany(
        "UPDATE tenant.devices SET last_seen_at = greatest(last_seen_at, $3)"
        " WHERE network_id = $1 AND id = $2",
        list(seen),
    )
