"""Errors at the edge: every exception becomes RFC 9457 problem+json, and the OpenAPI document says so.

The answer never quotes another row, a stack or a query. What is not ours (a bug) is logged under the
request id and answered with nothing but that it happened.
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Schema
from litestar.openapi.spec.enums import OpenAPIType

from yggdrasil import errors

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "/docs/errors/"

_log = structlog.get_logger("yggdrasil.problems")

_STATUS_ERRORS: dict[int, type[errors.YggdrasilError]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    429: errors.LimitReached,
}


def as_known(exception: Exception) -> errors.YggdrasilError | None:
    """The exception as one of ours, or None if it is a bug."""
    if isinstance(exception, errors.YggdrasilError):
        return exception
    if isinstance(exception, ValidationException):
        return _from_validation(exception)
    if isinstance(exception, msgspec.ValidationError):
        return errors.InvalidInput(str(exception))
    if isinstance(exception, HTTPException) and exception.status_code < 500:
        known = _STATUS_ERRORS.get(exception.status_code)
        return known() if known is not None else errors.InvalidInput(exception.detail)
    return None


def _from_validation(exception: ValidationException) -> errors.InvalidInput:
    """Litestar lists what broke; the first is named, all are told."""
    extra: Any = exception.extra
    items = [item for item in extra if isinstance(item, dict)] if isinstance(extra, list) else []
    if not items:
        return errors.InvalidInput(exception.detail)
    told = "; ".join(f"{item.get('key', 'body')}: {item.get('message', 'invalid')}" for item in items[:8])
    return errors.InvalidInput(told, field=str(items[0].get("key", "body")))


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
    return body


def handle(request: Request[Any, Any, Any], exception: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything under `/api`, `/health` and the rest."""
    known = as_known(exception)
    status = known.status if known is not None else 500
    headers: dict[str, str] = {}
    if isinstance(exception, HTTPException) and exception.status_code == 405:
        status = 405
        headers["allow"] = (exception.headers or {}).get("Allow", (exception.headers or {}).get("allow", ""))
    if known is None or known.code == "internal":
        _log.error("unexpected", request_id=request.scope.get("request_id"), exc_info=exception)
        known = known or errors.YggdrasilError()
    if known.retry_after_seconds is not None:
        headers["retry-after"] = str(known.retry_after_seconds)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(
        content=msgspec.json.encode(problem_body(known, status)),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def document(app: Litestar) -> None:
    """Say in the OpenAPI document that every operation may answer with a problem."""
    schema = Schema(
        type=OpenAPIType.OBJECT,
        required=["type", "title", "status", "code", "detail"],
        properties={
            "type": Schema(type=OpenAPIType.STRING),
            "title": Schema(type=OpenAPIType.STRING),
            "status": Schema(type=OpenAPIType.INTEGER),
            "code": Schema(type=OpenAPIType.STRING),
            "detail": Schema(type=OpenAPIType.STRING),
            "field": Schema(type=OpenAPIType.STRING),
        },
    )
    answer = OpenAPIResponse(
        description="A problem (RFC 9457)", content={MEDIA_TYPE: OpenAPIMediaType(schema=schema)}
    )
    for item in (app.openapi_schema.paths or {}).values():
        for operation in (item.get, item.put, item.post, item.delete, item.patch):
            if operation is None:
                continue
            responses = operation.responses if operation.responses is not None else {}
            responses.pop("400", None)  # Litestar's own shape, which we never send
            responses["default"] = answer
            operation.responses = responses
