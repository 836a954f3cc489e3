"""What an operator sees: logs and metrics without personal data, bodies, networks or devices."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import structlog
from litestar.enums import ScopeType
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from yggdrasil import tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
REQUESTS_WAITING = Gauge(
    "yggdrasil_requests_waiting", "Requests that wait on this server for a busy offer.", registry=REGISTRY
)
WAITING_SECONDS = Gauge(
    "yggdrasil_requests_waiting_seconds", "For how long the oldest of them waits.", registry=REGISTRY
)
RECONCILED = Counter("yggdrasil_reconciled_holds", "Holds the reconciler ended.", registry=REGISTRY)
LEDGER_SUM = Gauge(
    "yggdrasil_ledger_sum_microcents", "Sum of all entries; anything but 0 is an alarm.", registry=REGISTRY
)
ISOLATION_PROBES = Counter(
    "yggdrasil_isolation_probes", "Attempts of the two canary networks on each other.", registry=REGISTRY
)
ISOLATION_LEAKS = Counter(
    "yggdrasil_isolation_leaks",
    "Attempts that learnt something; anything but 0 is an alarm.",
    registry=REGISTRY,
)
ISOLATION_PROBED_AT = Gauge(
    "yggdrasil_isolation_probed_timestamp_seconds", "When the last attempt was made.", registry=REGISTRY
)

AUDIT_LINKED = Counter("yggdrasil_audit_rows", "Audit rows linked to their chains.", registry=REGISTRY)
AUDIT_BROKEN = Gauge(
    "yggdrasil_audit_chains_broken",
    "Chains that are not extended; anything but 0 is an alarm.",
    registry=REGISTRY,
)
AUDIT_UNWRITTEN = Counter(
    "yggdrasil_audit_heads_unwritten", "Writes of signed heads to their file that failed.", registry=REGISTRY
)
UNKNOWN_IDS = Counter(
    "yggdrasil_unknown_ids", "Ids that were asked for and are not in the asker's network.", registry=REGISTRY
)
UNKNOWN_ALERTS = Counter(
    "yggdrasil_unknown_id_alerts", "Times that somebody asked for unusually many of them.", registry=REGISTRY
)

NOT_FOUND: Final = 404
OF_THE_WATCH: Final = "of_the_watch"
"""In the scope of the server's questions to itself, which are in no log and no measure of requests."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
"""All others are counted as one: a label that a stranger can choose has no end."""

_log = structlog.get_logger("yggdrasil.http")


_TELLING: Final = (AttributeError, ImportError, NameError, NotImplementedError, RecursionError, TypeError)
"""Bugs whose message speaks of our code. That of any other exception may quote a row or a request."""


def traceback_without_data(error: BaseException) -> str:
    """Where it happened and what kind of error it was, down the chain of causes, without their messages."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        told = f": {current}" if isinstance(current, _TELLING) else ""
        frames = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"{frames}{type(current).__module__}.{type(current).__qualname__}{told}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nwhich came of\n\n".join(parts)


def _replace_exc_info(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The structlog processor for `exc_info`: True for the exception at hand, or an exception."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event["exception"] = traceback_without_data(error)
    return event


def _add_trace_id(_logger: Any, _method: str, logged: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that says which trace a line belongs to, if one is open."""
    logged.update(tracing.trace_fields())
    return logged


class _LineFormatter(logging.Formatter):
    """Records of libraries in the form of our own: a JSON line, with the first line of their message."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        line = {
            "event": record.getMessage().partition("\n")[0],
            "logger": record.name,
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            **tracing.trace_fields(),
        }
        if error is not None:
            line["exception"] = traceback_without_data(error)
        return json.dumps(line)


def configure_logging(level: str) -> None:
    """JSON lines on stderr; one line per event, fields chosen by the caller, nothing added from requests."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _replace_exc_info,
            _add_trace_id,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class Observe:
    """Around the whole ASGI application: a request id for every answer, one log line and two measures.

    The route is the template (`/api/v1/devices/{device_id}`), never the path: ids are not labels. `missing`
    is told of every 404, when the answer is on its way.
    """

    def __init__(
        self, app: ASGIApp, ids: IdSource, missing: Callable[[Scope], None] = lambda _: None
    ) -> None:
        self._app = app
        self._ids = ids
        self._missing = missing

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
            if OF_THE_WATCH not in scope:
                self._record(scope, request_id, status, time.perf_counter() - started)
                if status == NOT_FOUND:
                    self._missing(scope)

    def _record(self, scope: Any, request_id: str, status: int, seconds: float) -> None:
        route = scope.get("path_template") or "unmatched"
        method = scope["method"] if scope["method"] in METHODS else "other"
        count, duration = _measures(method, route, status)
        count.inc()
        duration.observe(seconds)
        _log.info(
            "request",
            request_id=request_id,
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 2),
        )


@cache
def _measures(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """The measures of these labels. As many as there are labels: none of them is a stranger's to choose."""
    return REQUESTS.labels(method, route, str(status)), REQUEST_SECONDS.labels(route)


def _added(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """What every answer carries. Nothing here may be kept by a cache: all of it is somebody's, or of now."""
    added = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
    names = {name.lower() for name, _ in headers}
    if b"cache-control" not in names:
        added.append((b"cache-control", b"no-store"))
    return [(name, value) for name, value in added if name not in names]
