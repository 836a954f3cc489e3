"""The SQL of decisions on registrations."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from yggdrasil.db import Tx
from yggdrasil.marketplace.verdicts import Asked, Facts
from yggdrasil.nornen.decisions import Reason


class Registration(msgspec.Struct, frozen=True):
    """A decision as its person sees it. `appeal_of`: the decision that was appealed."""

    registration_id: UUID
    device_id: str
    verdict: str
    reasons: list[Reason]
    facts: list[Facts]
    asked: Asked
    appeal_of: UUID | None
    decided_at: datetime


_COLUMNS = "id, device_id, verdict, reasons::text, facts::text, asked::text, appeal_of, decided_at"


async def insert(tx: Tx, network_id: UUID, user_id: UUID, made: Registration) -> None:
    await tx.execute(
        "INSERT INTO tenant.registrations"
        " (network_id, id, user_id, device_id, verdict, reasons, facts, asked, appeal_of, decided_at)"
        " VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8::text::jsonb, $9, $10)",
        network_id,
        made.registration_id,
        user_id,
        made.device_id,
        made.verdict,
        msgspec.json.encode(made.reasons).decode(),
        msgspec.json.encode(made.facts).decode(),
        msgspec.json.encode(made.asked).decode(),
        made.appeal_of,
        made.decided_at,
    )


async def registration(tx: Tx, network_id: UUID, user_id: UUID, id_: UUID) -> Registration | None:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM tenant.registrations"  # noqa: S608
        " WHERE network_id = $1 AND user_id = $2 AND id = $3",
        network_id,
        user_id,
        id_,
    )
    return _registration(row) if row is not None else None


async def registrations(
    tx: Tx, network_id: UUID, user_id: UUID, *, before: tuple[datetime, UUID] | None, limit: int
) -> list[Registration]:
    """Newest first."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM tenant.registrations WHERE network_id = $1 AND user_id = $2"  # noqa: S608
        " AND ($3::timestamptz IS NULL OR (decided_at, id) < ($3, $4::uuid))"
        " ORDER BY decided_at DESC, id DESC LIMIT $5",
        network_id,
        user_id,
        before[0] if before is not None else None,
        before[1] if before is not None else None,
        limit,
    )
    return [_registration(row) for row in rows]


async def appeals_since(tx: Tx, network_id: UUID, user_id: UUID, since: datetime) -> int:
    """How many appeals of the person were decided since then."""
    count: int = await tx.fetchval(
        "SELECT count(*) FROM tenant.registrations"
        " WHERE network_id = $1 AND user_id = $2 AND appeal_of IS NOT NULL AND decided_at > $3",
        network_id,
        user_id,
        since,
    )
    return count


async def latest_appeal(tx: Tx, network_id: UUID, user_id: UUID, appeal_of: UUID) -> Registration | None:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM tenant.registrations"  # noqa: S608
        " WHERE network_id = $1 AND user_id = $2 AND appeal_of = $3"
        " ORDER BY decided_at DESC, id DESC LIMIT 1",
        network_id,
        user_id,
        appeal_of,
    )
    return _registration(row) if row is not None else None


def _registration(row: Any) -> Registration:
    return Registration(
        registration_id=row["id"],
        device_id=row["device_id"],
        verdict=row["verdict"],
        reasons=msgspec.json.decode(row["reasons"], type=list[Reason]),
        facts=msgspec.json.decode(row["facts"], type=list[Facts]),
        asked=msgspec.json.decode(row["asked"], type=Asked),
        appeal_of=row["appeal_of"],
        decided_at=row["decided_at"],
    )
