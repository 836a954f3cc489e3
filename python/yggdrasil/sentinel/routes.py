"""`/health/isolation`, for operators; to everybody else it is an unknown path."""

from __future__ import annotations

from typing import Any

from litestar import Response, Router, get
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import SkipValidation

from yggdrasil.admin.door import operator_of
from yggdrasil.sentinel.sentinel import Health, Sentinel


def _operators_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    operator_of(connection.scope)


@get("/health/isolation", guards=[_operators_only])
async def isolation(sentinel: NamedDependency[SkipValidation[Sentinel]]) -> Response[Health]:
    """How many attempts of the two canary networks on each other, how many leaks, how long ago. 503 unless
    all is well."""
    health = sentinel.health()
    return Response(health, status_code=200 if health.well else 503, headers={"cache-control": "no-store"})


router = Router(path="/", route_handlers=[isolation], include_in_schema=False)
