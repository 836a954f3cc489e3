"""Errors at the edge: every exception becomes RFC 9457 problem+json.

The answer never quotes another row, a stack or a query. What is not ours (a bug) is logged under the
request id and answered with nothing but that it happened.
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from yggdrasil import errors, tracing
from yggdrasil.apidoc import OPENAI_PREFIX, PROBLEM_MEDIA_TYPE
from yggdrasil.edge import as_known
from yggdrasil.openai import shapes

TYPE_PREFIX = "/docs/errors/"

_log = structlog.get_logger("yggdrasil.problems")


def problem_body(error: errors.YggdrasilError, status: int) -> dict[str, Any]:
    """The problem document of `error`."""
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": status,
        "code": error.code,
        "detail": error.detail if status < 500 or error.code != "internal" else error.title,
    }
    if error.field is not None:
        body["field"] = error.field
    if isinstance(error, errors.LimitReached) and error.limit is not None:
        body |= {"limit": error.limit, "used": error.used, "retry_after_seconds": error.retry_after_seconds}
    return body


def handle(request: Request[Any, Any, Any], exception: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything; below `/v1` in the shape that OpenAI's clients read."""
    known = as_known(exception)
    if known is None:
        # The route's template, never the path: a path may hold an id.
        _log.error(
            "unexpected",
            request_id=request.scope.get("request_id"),
            route=request.scope.get("path_template"),
            exc_info=exception,
        )
        known = errors.YggdrasilError()
    elif known.code == "internal":
        _log.error("unexpected", request_id=request.scope.get("request_id"), exc_info=exception)
    tracing.note("error.type", known.code)
    headers: dict[str, str] = {}
    if isinstance(exception, HTTPException) and known.status == 405:
        given = {name.lower(): text for name, text in (exception.headers or {}).items()}
        headers["allow"] = given.get("allow", "")
    if known.retry_after_seconds is not None:
        headers["retry-after"] = str(known.retry_after_seconds)
    if known.status == 401:
        headers["www-authenticate"] = "Bearer"
    openai = request.url.path.startswith(OPENAI_PREFIX)
    body = shapes.error_body(known) if openai else problem_body(known, known.status)
    return Response(
        content=msgspec.json.encode(body),
        status_code=known.status,
        media_type="application/json" if openai else PROBLEM_MEDIA_TYPE,
        headers=headers,
    )
