"""`/health/live`, `/health/ready` and `/metrics`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from yggdrasil.observe import REGISTRY

Readiness = Callable[[], Awaitable[dict[str, bool]]]


@get("/health/live", summary="The process answers")
async def live() -> dict[str, str]:
    """Says only that the process runs; it never asks the database."""
    return {"status": "live"}


@get("/health/ready", summary="The parts are there")
async def ready(
    readiness: NamedDependency[SkipValidation[Readiness]],
) -> Response[dict[str, bool]]:
    """200 if every part answers, else 503; names the parts, never their addresses."""
    parts = await readiness()
    return Response(parts, status_code=200 if all(parts.values()) else 503)


@get("/metrics", include_in_schema=False)
async def metrics() -> Response[bytes]:
    """Prometheus text."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


router = Router(path="/", route_handlers=[live, ready, metrics], tags=["operators"])
