"""SQL of visibility. Each read asks for the rows of one person alone; the scope of `tx` says which of them
its viewer may see: the same policies that decide every other request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from yggdrasil.db import Tx

ROWS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class SeenDevice:
    """`id`: the internal one."""

    id: UUID
    device_id: str


@dataclass(frozen=True, slots=True)
class SeenProvider:
    """A provider, and for whom it works."""

    id: UUID
    audience: str


@dataclass(frozen=True, slots=True)
class SeenHandOver:
    """A hand-over."""

    hand_over_id: UUID
    session_id: UUID
    device_name: str
    given_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What a viewer's policies show of a person. `requests`: any."""

    devices: list[SeenDevice]
    providers: list[SeenProvider]
    hand_overs: list[SeenHandOver]
    openings: set[UUID]
    keys: set[UUID]
    requests: bool


async def seen(
    tx: Tx, network_id: UUID, user_id: UUID, sessions: Sequence[UUID], openings: Sequence[UUID]
) -> Seen:
    """What the viewer of `tx` may see of the person; of hand-overs and openings, those named."""
    devices = await tx.fetch(
        "SELECT id, device_id FROM tenant.devices WHERE network_id = $1 AND user_id = $2"
        " ORDER BY device_id LIMIT $3",
        network_id,
        user_id,
        ROWS_MAX,
    )
    providers = await tx.fetch(
        "SELECT id, audience FROM tenant.providers WHERE network_id = $1 AND user_id = $2"
        " ORDER BY created_at, id LIMIT $3",
        network_id,
        user_id,
        ROWS_MAX,
    )
    hand_overs = await tx.fetch(
        "SELECT hand_over_id, session_id, device_name, given_at, ends_at FROM tenant.hand_overs"
        " WHERE network_id = $1 AND user_id = $2 AND session_id = ANY ($3::uuid[])"
        " ORDER BY given_at DESC, hand_over_id",
        network_id,
        user_id,
        list(sessions),
    )
    opened = await tx.fetch(
        "SELECT opening_id FROM tenant.openings WHERE network_id = $1 AND opening_id = ANY ($2::uuid[])",
        network_id,
        list(openings),
    )
    keys = await tx.fetch(
        "SELECT key_id FROM tenant.api_keys WHERE network_id = $1 AND user_id = $2 AND revoked_at IS NULL"
        " LIMIT $3",
        network_id,
        user_id,
        ROWS_MAX,
    )
    asked = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM tenant.transactions WHERE network_id = $1 AND user_id = $2)",
        network_id,
        user_id,
    )
    return Seen(
        [SeenDevice(**dict(row)) for row in devices],
        [SeenProvider(**dict(row)) for row in providers],
        [SeenHandOver(**dict(row)) for row in hand_overs],
        {row["opening_id"] for row in opened},
        {row["key_id"] for row in keys},
        asked,
    )


async def members(
    tx: Tx, network_id: UUID, but: UUID, roles: Sequence[str], after: UUID | None, limit: int
) -> list[tuple[UUID, str]]:
    """(user, role) of the members with one of these roles, in the order of their ids."""
    rows = await tx.fetch(
        "SELECT user_id, role FROM identity.memberships WHERE network_id = $1 AND user_id <> $2"
        " AND role = ANY ($3::text[]) AND ($4::uuid IS NULL OR user_id > $4) ORDER BY user_id LIMIT $5",
        network_id,
        but,
        list(roles),
        after,
        limit,
    )
    return [(row["user_id"], row["role"]) for row in rows]
