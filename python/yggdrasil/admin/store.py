"""SQL of operators and of what they open: System, but for a credential's lookup and a network's own list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from yggdrasil.admin.tables import OperatorRow
from yggdrasil.audit import Event, EventKind, operator, record
from yggdrasil.db import Tx
from yggdrasil.kernel import PLATFORM_NETWORK, SENTINEL_NETWORKS


async def insert_operator(tx: Tx, operator_id: UUID, name: str, digest: bytes, now: datetime) -> None:
    """Under System("operators")."""
    row = OperatorRow(operator_id=operator_id, name=name, secret_digest=digest, created_at=now)
    await tx.run(OperatorRow.insert(row))


async def revoke_operator(tx: Tx, operator_id: UUID, now: datetime) -> bool:
    """Under System("operators"). False for one that is absent or revoked before."""
    status = await tx.execute(
        "UPDATE identity.operators SET revoked_at = $2 WHERE operator_id = $1 AND revoked_at IS NULL",
        operator_id,
        now,
    )
    return status.endswith(" 1")


async def list_operators(tx: Tx, limit: int) -> list[dict[str, Any]]:
    rows = await tx.fetch(
        "SELECT operator_id, name, created_at, revoked_at FROM identity.operators"
        " ORDER BY created_at, operator_id LIMIT $1",
        limit,
    )
    return [dict(row) for row in rows]


async def find_operator(tx: Tx, operator_id: UUID) -> tuple[str, bytes] | None:
    """Name and digest of one that works; under Identity."""
    row = await tx.fetchrow(
        "SELECT name, secret_digest FROM identity.operators WHERE operator_id = $1 AND revoked_at IS NULL",
        operator_id,
    )
    return None if row is None else (row["name"], bytes(row["secret_digest"]))


@dataclass(frozen=True, slots=True)
class Opening:
    """A row, or all rows, of a network that is about to be shown to an operator."""

    network_id: UUID
    opening_id: UUID
    operator_id: UUID | None
    user_id: UUID | None
    subject: str
    subject_id: UUID
    reason: str
    at: datetime


async def insert_openings(tx: Tx, job: str, openings: Sequence[Opening]) -> None:
    """The list of the network, the audit of System, and the chains of both."""
    await tx.executemany(
        "INSERT INTO tenant.openings (network_id, opening_id, operator_id, user_id, subject, subject_id,"
        " reason, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        [
            (
                one.network_id,
                one.opening_id,
                one.operator_id,
                one.user_id,
                one.subject,
                one.subject_id,
                one.reason,
                one.at,
            )
            for one in openings
        ],
    )
    await tx.executemany(
        "INSERT INTO jobs.audit (id, job, scope, detail, at) VALUES ($1, $2, 'opening', $3, $4)",
        [
            (
                one.opening_id,
                job,
                f"operator {one.operator_id or 'at the console'} opened {one.subject} {one.subject_id}"
                f" of network {one.network_id}: {one.reason}",
                one.at,
            )
            for one in openings
        ],
    )
    await record(
        tx, *(_opened(one, of) for one in openings for of in sorted({one.network_id, PLATFORM_NETWORK}))
    )


def _opened(opening: Opening, network_id: UUID) -> Event:
    """For the network: what it can read in its list. For the operators: by whom and of which network."""
    kind = EventKind.OPENING_NETWORK if opening.subject == "network" else EventKind.OPENING_REQUEST
    theirs = network_id == opening.network_id
    return Event(
        network_id=network_id,
        event_id=opening.opening_id,
        at=opening.at,
        kind=kind,
        actor=operator(opening.operator_id),
        subject=opening.subject,
        subject_id=opening.subject_id,
        user_id=opening.user_id if theirs else None,
        detail={"reason": opening.reason} | ({} if theirs else {"network": str(opening.network_id)}),
    )


async def note_look(tx: Tx, job: str, audit_id: UUID, operator_id: UUID, what: str, at: datetime) -> None:
    """Which operator looked at which list: the audit of System alone knows the job only."""
    event = Event(
        network_id=PLATFORM_NETWORK,
        event_id=audit_id,
        at=at,
        kind=EventKind.OPERATOR_LOOKED,
        actor=operator(operator_id),
        subject="operator",
        subject_id=operator_id,
        detail={"at": what},
    )
    await record(tx, event)
    await tx.execute(
        "INSERT INTO jobs.audit (id, job, scope, detail, at) VALUES ($1, $2, 'look', $3, $4)",
        audit_id,
        job,
        f"operator {operator_id} looked at {what}",
        at,
    )


async def openings_of(
    tx: Tx, network_id: UUID, before: tuple[datetime, UUID] | None, limit: int
) -> list[dict[str, Any]]:
    """What was opened of a network, newest first; under Network what its caller may know of."""
    rows = await tx.fetch(
        "SELECT opening_id, operator_id, user_id, subject, subject_id, reason, at FROM tenant.openings"
        " WHERE network_id = $1 AND ($2::timestamptz IS NULL OR (at, opening_id) < ($2, $3::uuid))"
        " ORDER BY at DESC, opening_id DESC LIMIT $4",
        network_id,
        *(before or (None, None)),
        limit,
    )
    return [dict(row) for row in rows]


async def counts(tx: Tx, live_since: datetime) -> dict[str, int]:
    """How much there is of everything, less what the server keeps for itself."""
    row = await tx.fetchrow(
        """
        SELECT (SELECT count(*) FROM tenant.networks WHERE network_id <> ALL ($2::uuid[])) AS networks,
            (SELECT count(*) FROM identity.accounts
                WHERE status = 'active' AND home_network_id <> ALL ($2::uuid[])) AS accounts,
            (SELECT count(*) FROM tenant.devices WHERE network_id <> ALL ($2::uuid[])) AS devices,
            (SELECT count(*) FROM tenant.providers) AS providers,
            (SELECT count(*) FROM tenant.offers) AS offers,
            (SELECT count(*) FROM tenant.transactions WHERE side = 'requester' AND state = 'PENDING')
                AS requests_queued,
            (SELECT count(*) FROM platform.attempts WHERE state IN ('dispatched', 'accepted'))
                AS attempts_open,
            (SELECT count(*) FROM platform.nodes WHERE heartbeat_at >= $1) AS nodes_live
        """,
        live_since,
        list(SENTINEL_NETWORKS),
    )
    return {} if row is None else dict(row)


async def networks(tx: Tx, after: tuple[datetime, UUID] | None, limit: int) -> list[dict[str, Any]]:
    """Oldest first, by id, with counts."""
    rows = await tx.fetch(
        """
        SELECT n.network_id, n.created_at,
            (SELECT count(*) FROM identity.memberships m WHERE m.network_id = n.network_id) AS members,
            (SELECT count(*) FROM tenant.devices d WHERE d.network_id = n.network_id) AS devices,
            (SELECT count(*) FROM tenant.providers p WHERE p.network_id = n.network_id) AS providers,
            (SELECT count(*) FROM tenant.api_keys k
                WHERE k.network_id = n.network_id AND k.revoked_at IS NULL) AS api_keys
        FROM tenant.networks n
        WHERE n.network_id <> ALL ($4::uuid[])
            AND ($1::timestamptz IS NULL OR (n.created_at, n.network_id) > ($1, $2::uuid))
        ORDER BY n.created_at, n.network_id LIMIT $3
        """,
        *(after or (None, None)),
        limit,
        list(SENTINEL_NETWORKS),
    )
    return [dict(row) for row in rows]


async def providers(tx: Tx, after: tuple[datetime, UUID] | None, limit: int) -> list[dict[str, Any]]:
    """Oldest first, by id, with counts; nothing of what they sell and for how much."""
    rows = await tx.fetch(
        """
        SELECT p.id AS provider_id, p.network_id, p.status, p.audience, p.created_at,
            (SELECT count(*) FROM tenant.offers o WHERE o.network_id = p.network_id AND o.provider = p.id)
                AS offers
        FROM tenant.providers p
        WHERE $1::timestamptz IS NULL OR (p.created_at, p.id) > ($1, $2::uuid)
        ORDER BY p.created_at, p.id LIMIT $3
        """,
        *(after or (None, None)),
        limit,
    )
    return [dict(row) for row in rows]


async def open_holds(tx: Tx, after: tuple[datetime, UUID] | None, limit: int) -> list[dict[str, Any]]:
    """Pending holds by deadline, without their amounts."""
    rows = await tx.fetch(
        "SELECT hold_id, network_id, owner_node, owner_boot, created_at, deadline_at FROM tenant.holds"
        " WHERE state = 'pending' AND ($1::timestamptz IS NULL OR (deadline_at, hold_id) > ($1, $2::uuid))"
        " ORDER BY deadline_at, hold_id LIMIT $3",
        *(after or (None, None)),
        limit,
    )
    return [dict(row) for row in rows]


async def audit(tx: Tx, before: tuple[datetime, UUID] | None, limit: int) -> list[dict[str, Any]]:
    """Uses of System and openings, newest first."""
    rows = await tx.fetch(
        "SELECT id, job, scope, detail, at FROM jobs.audit"
        " WHERE $1::timestamptz IS NULL OR (at, id) < ($1, $2::uuid) ORDER BY at DESC, id DESC LIMIT $3",
        *(before or (None, None)),
        limit,
    )
    return [dict(row) for row in rows]


async def network(tx: Tx, network_id: UUID) -> dict[str, Any] | None:
    """A tenant's rows: its members, its balances, its devices' and keys' number."""
    found = await tx.fetchrow(
        """
        SELECT n.network_id, n.created_at, n.currency,
            (SELECT count(*) FROM tenant.devices d WHERE d.network_id = n.network_id) AS devices,
            (SELECT count(*) FROM tenant.api_keys k
                WHERE k.network_id = n.network_id AND k.revoked_at IS NULL) AS api_keys
        FROM tenant.networks n WHERE n.network_id = $1
        """,
        network_id,
    )
    if found is None:
        return None
    members = await tx.fetch(
        "SELECT user_id, role, created_at FROM identity.memberships WHERE network_id = $1"
        " ORDER BY created_at, user_id LIMIT 1000",
        network_id,
    )
    balances = await tx.fetch(
        "SELECT account, posted_microcents, held_microcents FROM tenant.balances WHERE network_id = $1"
        " ORDER BY account",
        network_id,
    )
    return {
        **dict(found),
        "members": [dict(row) for row in members],
        "balances": [dict(row) for row in balances],
    }
