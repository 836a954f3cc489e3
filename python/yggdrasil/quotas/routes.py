"""What one's network may use, and its tier, which operators assign."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Router, get, put
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody, SkipValidation

from yggdrasil.admin.credential import OperatorScope
from yggdrasil.admin.door import PREFIX, operator_of
from yggdrasil.admin.explain import REASON_CHARS_MAX, REASON_CHARS_MIN
from yggdrasil.devices.service import Devices
from yggdrasil.kernel import Network
from yggdrasil.quotas.service import Limits, Quotas
from yggdrasil.quotas.tiers import Tier
from yggdrasil.users.roles import Action

QuotasDependency = NamedDependency[SkipValidation[Quotas]]


class TierBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The network reads the reason: name nobody else in it."""

    tier: Tier
    reason: Annotated[str, msgspec.Meta(min_length=REASON_CHARS_MIN, max_length=REASON_CHARS_MAX)]


@get(
    "/users/me/limits",
    summary="What my network may use, and uses now",
    tags=["users"],
    action=Action.OWN_ACCOUNT,
)
async def limits(
    quotas: QuotasDependency,
    devices: NamedDependency[SkipValidation[Devices]],
    caller: NamedDependency[SkipValidation[Network]],
) -> Limits:
    """The limits of the caller's network by its tier, and how much of each is used on the node that
    answers."""
    return quotas.limits(caller, await devices.count(caller))


@put("/networks/{network_id:uuid}/tier", status_code=204)
async def assign_tier(
    quotas: QuotasDependency,
    operator: NamedDependency[SkipValidation[OperatorScope]],
    network_id: FromPath[UUID],
    data: JSONBody[TierBody],
) -> None:
    """From now on here, and within seconds on every other node."""
    await quotas.assign(operator, network_id, data.tier, data.reason)


async def _operator(request: Request[Any, Any, Any]) -> OperatorScope:
    return operator_of(request.scope)


def _operators_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    operator_of(connection.scope)


router = Router(path="/api/v1", route_handlers=[limits])
operator_router = Router(
    path=PREFIX,
    route_handlers=[assign_tier],
    guards=[_operators_only],
    dependencies={"operator": Provide(_operator)},
    include_in_schema=False,
)
