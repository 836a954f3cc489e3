"""The REST edge of a network's own audit: `/api/v1/audit`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation

from yggdrasil.admin.operators import Operators
from yggdrasil.kernel import Network
from yggdrasil.users.roles import Action

OperatorsDependency = NamedDependency[SkipValidation[Operators]]
CallerDependency = NamedDependency[SkipValidation[Network]]


class AuditRowView(msgspec.Struct, frozen=True):
    """A row of the network's chain. Hashes are hexadecimal, `detail` is the JSON text they cover."""

    number: int
    event_id: UUID
    kind: str
    actor_kind: str
    actor_id: UUID | None
    user_id: UUID | None
    subject_kind: str
    subject_id: UUID | None
    detail: str
    at: datetime
    format: int
    previous_hash: str
    hash: str


class AuditView(msgspec.Struct, frozen=True):
    """A page of the audit."""

    items: list[AuditRowView]
    next: str | None


class AuditHeadView(msgspec.Struct, frozen=True):
    """Where the chain ended when it was signed; hash and signature are hexadecimal."""

    number: int
    hash: str
    at: datetime
    key_id: str
    signature: str


class AuditHeadsView(msgspec.Struct, frozen=True):
    """The last head, none before the first row; the Ed25519 keys that sign, hexadecimal, by their ids."""

    network_id: UUID
    head: AuditHeadView | None
    public_keys: dict[str, str]


@get("/", summary="What was audited in my network", action=Action.AUDIT)
async def list_audit(
    caller: CallerDependency,
    operators: OperatorsDependency,
    kind: FromQuery[str | None] = None,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> AuditView:
    """Newest first, of one kind or all; for owners and admins."""
    page = await operators.trail.page(caller, kind=kind, limit=limit, cursor=cursor)
    items = [
        AuditRowView(**(row | {"hash": row["hash"].hex(), "previous_hash": row["previous_hash"].hex()}))
        for row in page.items
    ]
    return AuditView(items, page.next)


@get("/head", summary="Where the audit of my network ends, signed", action=Action.AUDIT)
async def audit_head(caller: CallerDependency, operators: OperatorsDependency) -> AuditHeadsView:
    """Keep it: who holds a head can show whether anything before it was changed. For owners and admins."""
    head, public = await operators.trail.head(caller)
    view = None
    if head is not None:
        view = AuditHeadView(head.number, head.hash.hex(), head.at, head.key_id, head.signature.hex())
    return AuditHeadsView(caller.network_id, view, {name: key.hex() for name, key in public.items()})


router = Router(path="/api/v1/audit", route_handlers=[list_audit, audit_head], tags=["audit"])
