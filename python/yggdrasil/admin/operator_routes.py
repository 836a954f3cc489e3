"""`/api/v1/admin`, for operators alone, and a network's own list of what was opened of it.

The operators' routes are not in the public API document: to everybody else they are unknown paths.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from yggdrasil.admin.credential import OperatorScope
from yggdrasil.admin.door import PREFIX, operator_of
from yggdrasil.admin.explain import REASON_CHARS_MAX, REASON_CHARS_MIN
from yggdrasil.admin.operators import Operators
from yggdrasil.kernel import Network
from yggdrasil.users.roles import Action

OperatorsDependency = NamedDependency[SkipValidation[Operators]]
OperatorDependency = NamedDependency[SkipValidation[OperatorScope]]
CallerDependency = NamedDependency[SkipValidation[Network]]
_NO_STORE = {"cache-control": "no-store"}


class ReasonBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Why a tenant's rows are opened. The tenant reads it: name nobody else in it."""

    reason: Annotated[str, msgspec.Meta(min_length=REASON_CHARS_MIN, max_length=REASON_CHARS_MAX)]


class ListView(msgspec.Struct, frozen=True):
    """A page of any of the lists."""

    items: list[dict[str, Any]]
    next: str | None


@get("/overview")
async def overview(operators: OperatorsDependency, operator: OperatorDependency) -> Response[dict[str, Any]]:
    """Counts, this node's sockets and runs, the reconciler's last round, and the sums of the books."""
    return Response(await operators.overview(operator), headers=_NO_STORE)


@get("/networks")
async def networks(
    operators: OperatorsDependency,
    operator: OperatorDependency,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> ListView:
    """By opaque id, with counts."""
    page = await operators.networks(operator, limit, cursor)
    return ListView(page.items, page.next)


@get("/providers")
async def providers(
    operators: OperatorsDependency,
    operator: OperatorDependency,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> ListView:
    """By opaque id, with counts."""
    page = await operators.providers(operator, limit, cursor)
    return ListView(page.items, page.next)


@get("/holds")
async def holds(
    operators: OperatorsDependency,
    operator: OperatorDependency,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> ListView:
    """Open holds and the process that answers for each."""
    page = await operators.holds(operator, limit, cursor)
    return ListView(page.items, page.next)


@get("/audit")
async def audit(
    operators: OperatorsDependency,
    operator: OperatorDependency,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> ListView:
    """Uses of System, and every opening with its reason."""
    page = await operators.audit(operator, limit, cursor)
    return ListView(page.items, page.next)


@post("/networks/{network_id:uuid}/open", status_code=200)
async def open_network(
    operators: OperatorsDependency,
    operator: OperatorDependency,
    network_id: FromPath[UUID],
    data: JSONBody[ReasonBody],
) -> Response[dict[str, Any]]:
    """A network's members and balances."""
    return Response(await operators.open_network(operator, network_id, data.reason), headers=_NO_STORE)


@post("/requests/{request_id:uuid}/open", status_code=200)
async def open_request(
    operators: OperatorsDependency,
    operator: OperatorDependency,
    request_id: FromPath[UUID],
    data: JSONBody[ReasonBody],
) -> Response[dict[str, Any]]:
    """The trace of a request, as `yggdrasil explain` prints it."""
    found = await operators.open_request(operator, request_id, data.reason)
    return Response(msgspec.to_builtins(found), headers=_NO_STORE)


async def _operator(request: Request[Any, Any, Any]) -> OperatorScope:
    return operator_of(request.scope)


def _operators_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    # Of every route behind the door, also of one that does not ask who it is.
    operator_of(connection.scope)


class OpeningView(msgspec.Struct, frozen=True):
    """What an operator opened, and why. No operator: at the server's console. `user_id`: whose it was, if it
    was one person's.
    """

    opening_id: UUID
    operator_id: UUID | None
    user_id: UUID | None
    subject: str
    subject_id: UUID
    reason: str
    at: datetime


class OpeningsView(msgspec.Struct, frozen=True):
    """A page of openings."""

    items: list[OpeningView]
    next: str | None


@get(
    "/users/me/openings",
    action=Action.OWN_ACCOUNT,
    summary="What operators opened of my network",
    tags=["users"],
)
async def openings(
    operators: OperatorsDependency,
    caller: CallerDependency,
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
) -> OpeningsView:
    """Newest first. Owners and admins see all of the network's, others what was theirs."""
    page = await operators.openings(caller, limit, cursor)
    return OpeningsView([OpeningView(**item) for item in page.items], page.next)


router = Router(
    path=PREFIX,
    route_handlers=[overview, networks, providers, holds, audit, open_network, open_request],
    guards=[_operators_only],
    dependencies={"operator": Provide(_operator)},
    include_in_schema=False,
)
tenant_router = Router(path="/api/v1", route_handlers=[openings])
