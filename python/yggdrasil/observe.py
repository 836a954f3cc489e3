"""What an operator sees: logs and metrics without personal data, bodies, networks or devices."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog
from litestar.enums import ScopeType
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litestar.types import ASGIApp, Message, Receive, Scope, Send

    from yggdrasil.kernel import IdSource

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "yggdrasil_http_requests", "Finished HTTP requests.", ["method", "route", "status"], registry=REGISTRY
)
REQUEST_SECONDS = Histogram(
    "yggdrasil_http_request_seconds",
    "Time from the request's head to the last byte of the answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
    registry=REGISTRY,
)
SOCKETS = Gauge("yggdrasil_sockets", "Device sockets that have said hello.", registry=REGISTRY)
OFFERS_ONLINE = Gauge("yggdrasil_offers_online", "Offers whose device is connected.", registry=REGISTRY)
RECONCILED = Counter("yggdrasil_reconciled_holds", "Holds the reconciler ended.", registry=REGISTRY)
LEDGER_SUM = Gauge(
    "yggdrasil_ledger_sum_microcents", "Sum of all entries; anything but 0 is an alarm.", registry=REGISTRY
)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
"""All others are counted as one: a label that a stranger can choose has no end."""

_log = structlog.get_logger("yggdrasil.http")


def configure_logging(level: str) -> None:
    """JSON lines on stderr; one line per event, fields chosen by the caller, nothing added from requests."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


class Observe:
    """Around the whole ASGI application: a request id for every answer, one log line and two measures.

    The route is the template (`/api/v1/devices/{device_id}`), never the path: ids are not labels.
    """

    def __init__(self, app: ASGIApp, ids: IdSource) -> None:
        self._app = app
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = self._ids.secret(8).hex()
        scope["request_id"] = request_id  # type: ignore[typeddict-unknown-key]
        started = time.perf_counter()
        status = 500

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_added(message["headers"], request_id)]
            await send(message)

        try:
            await self._app(scope, receive, tell)
        finally:
            self._record(scope, request_id, status, time.perf_counter() - started)

    def _record(self, scope: Any, request_id: str, status: int, seconds: float) -> None:
        route = scope.get("path_template") or "unmatched"
        method = scope["method"] if scope["method"] in METHODS else "other"
        REQUESTS.labels(method, route, str(status)).inc()
        REQUEST_SECONDS.labels(route).observe(seconds)
        _log.info(
            "request",
            request_id=request_id,
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 2),
        )


def _added(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """What every answer carries. Nothing here may be kept by a cache: all of it is somebody's, or of now."""
    added = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
    names = {name.lower() for name, _ in headers}
    if b"cache-control" not in names:
        added.append((b"cache-control", b"no-store"))
    return [(name, value) for name, value in added if name not in names]
