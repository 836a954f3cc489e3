"""SQL of the tiers. Under System."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.quotas.tiers import Tier


async def assigned(tx: Tx) -> dict[UUID, Tier]:
    """The tier of every network that has one of its own."""
    rows = await tx.fetch("SELECT network_id, tier FROM tenant.tiers")
    return {row["network_id"]: Tier(row["tier"]) for row in rows}


async def assign(tx: Tx, network_id: UUID, tier: Tier, at: datetime) -> bool:
    """False if there is no such network. Under System("operator")."""
    status = await tx.execute(
        "INSERT INTO tenant.tiers (network_id, tier, assigned_at)"
        " SELECT network_id, $2, $3 FROM tenant.networks WHERE network_id = $1"
        " ON CONFLICT (network_id) DO UPDATE SET tier = excluded.tier, assigned_at = excluded.assigned_at",
        network_id,
        tier.value,
        at,
    )
    return status.endswith(" 1")
