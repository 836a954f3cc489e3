"""The OpenAPI document: what Litestar cannot see is added here, above all every error an operation answers.

There is no `default` response: a status that is not listed is a lie of this document, and a test looks for
them.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIType

from yggdrasil import errors

OPENAI_PREFIX: Final = "/v1/"
PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
LIMIT_MAX: Final = 100

_OPEN: Final = ("/health/", "/api/v1/users/register", "/api/v1/users/login", "/api/v1/users/hand-overs/ask")
"""Paths that ask for no credential and never answer 401."""
_CREDENTIAL_IN_BODY: Final = (
    "/api/v1/users/verify",
    "/api/v1/users/refresh",
    "/api/v1/users/hand-overs/take",
)
_COMPUTE: Final = (402, 403, 404, 409, 429, 502, 503, 504)
_MORE: Final[dict[tuple[str, str], tuple[int, ...]]] = {
    ("POST", "/api/v1/users/register"): (429,),
    ("POST", "/api/v1/users/login"): (429,),
    ("POST", "/api/v1/users/hand-overs/ask"): (429,),
    ("GET", "/api/v1/users/me/hand-over-asks"): (403, 404),
    ("POST", "/api/v1/users/me/hand-over-asks/{flow}/approve"): (403,),
    ("DELETE", "/api/v1/users/me/hand-over-asks/{flow}"): (403,),
    ("DELETE", "/api/v1/users/me/hand-overs/{hand_over_id}"): (403,),
    ("POST", "/api/v1/users/logout"): (403,),
    ("GET", "/api/v1/users/me"): (404,),
    ("PUT", "/api/v1/users/me"): (404,),
    ("DELETE", "/api/v1/users/me"): (403, 409),
    ("POST", "/api/v1/keys"): (403, 429),
    ("POST", "/api/v1/keys/{key_id}/rotate"): (403, 409),
    ("DELETE", "/api/v1/keys/{key_id}"): (403,),
    ("POST", "/api/v1/devices"): (409, 429),
    ("PUT", "/api/v1/devices/{device_id}"): (403,),
    ("DELETE", "/api/v1/devices/{device_id}"): (403, 409),
    ("POST", "/api/v1/payments/methods"): (403, 409, 429),
    ("POST", "/api/v1/payments/methods/{method_id}/verify"): (402, 403, 409),
    ("DELETE", "/api/v1/payments/methods/{method_id}"): (403, 409),
    ("POST", "/api/v1/payments/process"): (402, 403, 404, 409, 429),
    ("POST", "/api/v1/marketplace/providers/register"): (402, 403, 404, 409, 429, 502, 504),
    ("PUT", "/api/v1/marketplace/providers/{provider_id}"): (402, 403, 409, 429, 502, 504),
    ("DELETE", "/api/v1/marketplace/providers/{provider_id}"): (403, 409),
    ("POST", "/api/v1/marketplace/requests"): _COMPUTE,
    ("POST", "/api/v1/marketplace/requests/{transaction_id}/cancel"): (409,),
    ("POST", "/v1/chat/completions"): _COMPUTE,
    ("POST", "/v1/responses"): _COMPUTE,
    ("POST", "/v1/embeddings"): _COMPUTE,
}
_STREAMS: Final = {
    ("POST", "/api/v1/marketplace/requests"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
}
_TITLES: Final = {
    kind.status: kind.title
    for kind in (
        errors.InvalidInput,
        errors.Unauthenticated,
        errors.Forbidden,
        errors.NotFound,
        errors.Conflict,
        errors.TooLarge,
        errors.UnsupportedMedia,
        errors.LimitReached,
        errors.YggdrasilError,
        errors.ProviderFailed,
        errors.Unavailable,
        errors.Timeout,
    )
} | {402: "The balance does not cover this request, or a verified payment method is needed"}


def complete(app: Litestar) -> None:
    """Add the errors, the streams and the credential to the document of `app`."""
    document = app.openapi_schema
    components = document.components if isinstance(document.components, Components) else Components()
    document.components = components
    components.schemas = {**(components.schemas or {}), "Problem": _problem(), "OpenAIError": _openai_error()}
    for name, words in _words().items():
        schema = components.schemas.get(name)
        if schema is not None and schema.description is None:
            schema.description = words
    components.security_schemes = {
        "bearer": SecurityScheme(
            type="http", scheme="bearer", description="An access token, or an API key (`ygg_…`)."
        )
    }
    for path, item in (document.paths or {}).items():
        for method in ("get", "put", "post", "delete"):
            operation = getattr(item, method)
            if operation is not None:
                _complete(operation, method.upper(), path)


def _words() -> dict[str, str]:
    """What our classes say of themselves, by the name their shape has in the document."""
    kinds: list[type[Any]] = [msgspec.Struct]
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__.startswith("yggdrasil.") and kind.__doc__]
    names = [kind.__name__ for kind in ours]
    # A name that two classes have says nothing about which of them it is.
    return {kind.__name__: inspect.getdoc(kind) or "" for kind in ours if names.count(kind.__name__) == 1}


def _complete(operation: Operation, method: str, path: str) -> None:
    responses: dict[str, Any] = dict(operation.responses or {})
    for status in _error_statuses(operation, method, path):
        responses[str(status)] = _error(status, openai=path.startswith(OPENAI_PREFIX))
    if path == "/health/ready":
        responses["503"] = OpenAPIResponse(description="A part is missing", content=responses["200"].content)
    if (method, path) in _STREAMS:
        stream = {"text/event-stream": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))}
        whole = responses.get("200")
        responses["200"] = OpenAPIResponse(
            description="The answer, or with `stream` a stream of server-sent events",
            content={**((whole.content if whole else None) or {}), **stream},
        )
    if "/analytics/" in path:
        table = {"text/csv": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))}
        responses["200"].content = {**(responses["200"].content or {}), **table}
    if path.endswith("/result"):
        responses["200"].content = {"application/json": OpenAPIMediaType(schema=Schema())}
    operation.responses = responses
    for parameter in operation.parameters or ():
        if not isinstance(parameter, Reference) and parameter.name == "limit":
            parameter.schema = Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=LIMIT_MAX, default=20)
    if not path.startswith((*_OPEN, *_CREDENTIAL_IN_BODY)):
        operation.security = [{"bearer": []}]


def _error_statuses(operation: Operation, method: str, path: str) -> list[int]:
    """Every error status of an operation, from its shape and from the table above."""
    if path.startswith("/health/"):
        return [400]
    found = {400, 500, 503, *_MORE.get((method, path), ())}
    if not path.startswith(_OPEN):
        found.add(401)
    if operation.request_body is not None:
        found |= {413, 415}
    if "{" in path:
        found.add(404)
    return sorted(found)


def _error(status: int, *, openai: bool) -> OpenAPIResponse:
    media_type, name = ("application/json", "OpenAIError") if openai else (PROBLEM_MEDIA_TYPE, "Problem")
    schema = Reference(ref=f"#/components/schemas/{name}")
    return OpenAPIResponse(description=_TITLES[status], content={media_type: OpenAPIMediaType(schema=schema)})


def _text() -> Schema:
    return Schema(type=OpenAPIType.STRING)


def _problem() -> Schema:
    return Schema(
        title="Problem",
        description="A problem (RFC 9457); `type` is the page of its `code`, `field` what broke the rule.",
        type=OpenAPIType.OBJECT,
        required=["type", "title", "status", "code", "detail"],
        properties={
            "type": _text(),
            "title": _text(),
            "status": Schema(type=OpenAPIType.INTEGER),
            "code": _text(),
            "detail": _text(),
            "field": _text(),
        },
    )


def _openai_error() -> Schema:
    nullable = Schema(one_of=[_text(), Schema(type=OpenAPIType.NULL)])
    inner = Schema(
        type=OpenAPIType.OBJECT,
        required=["message", "type", "param", "code"],
        properties={"message": _text(), "type": _text(), "param": nullable, "code": _text()},
    )
    return Schema(
        title="OpenAIError",
        description="An error as the clients of the OpenAI API read it; `code` is that of our problems.",
        type=OpenAPIType.OBJECT,
        required=["error"],
        properties={"error": inner},
    )
