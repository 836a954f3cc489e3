"""How a request is read: strict JSON bodies of a known type, and query parameters that somebody reads.

Litestar would read a body leniently ("5" is a number to it), whatever its content type, and ignore a query
parameter that no handler knows. Here each of these is an `InvalidInput` that names the field and the rule.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.params import ParameterKwarg

from yggdrasil import errors

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
NESTING_MAX: Final = 64
BODY_SECONDS_MAX: Final = 30.0
"""Or half a request, which costs a stranger nothing, would hold its place for ever."""
DRAINED_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
DRAIN_SECONDS_MAX: Final = 5.0
NAME_SHOWN_CHARS_MAX: Final = 64
CALLER: Final = "caller"
"""The key of an ASGI scope under which lies who asks, once it is known."""
ANY_QUERY: Final = "any_query"
"""The `opt` of a router whose clients may send query parameters that nobody here reads."""

_FORWARDED: Final = frozenset((b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"))
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_STATUS_ERRORS: Final[dict[int, type[errors.YggdrasilError]]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    409: errors.Conflict,
    413: errors.TooLarge,
    415: errors.UnsupportedMedia,
    429: errors.LimitReached,
}


def as_known(exception: Exception) -> errors.YggdrasilError | None:
    """The exception as one of ours, or None if it is a bug."""
    if isinstance(exception, errors.YggdrasilError):
        return exception
    if isinstance(exception, ValidationException):
        return _from_validation(exception)
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


def refused(error: msgspec.ValidationError) -> errors.InvalidInput:
    """What msgspec says of a body, as a field and its rule."""
    rule, _, path = str(error).rpartition(" - at `$") if " - at `$" in str(error) else (str(error), "", "")
    path = path.rstrip("`").lstrip(".")
    if missing := _MISSING.fullmatch(rule):
        path, rule = _joined(path, missing[1]), "must be given"
    elif unknown := _UNKNOWN.fullmatch(rule):
        path, rule = _joined(path, unknown[1][:NAME_SHOWN_CHARS_MAX]), "there is no such field"
    field = path or "body"
    return errors.InvalidInput(f"{field}: {rule}", field=field)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode_body(body: bytes, kind: Any) -> Any:
    """`body` as an object of type `kind`. InvalidInput names the field."""
    try:
        decoded = _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise refused(error) from None
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeError) as error:
        said = "text must be UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise errors.InvalidInput(f"body: must be JSON ({said})", field="body") from None
    # Only a body with many brackets can be deep, only one with an escape can hold NUL: most are not walked.
    if body.count(b"[") + body.count(b"{") > NESTING_MAX or b"\\u0000" in body:
        _walk(msgspec.to_builtins(decoded), "", 0)
    return decoded


def _walk(value: Any, path: str, depth: int) -> None:
    """InvalidInput for what no part behind the edge can take: NUL in text, and very deep nesting."""
    if depth > NESTING_MAX:
        raise _too_deep()
    if isinstance(value, str):
        if "\0" in value:
            field = path or "body"
            raise errors.InvalidInput(f"{field}: text must not contain the NUL character", field=field)
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(name, str):
                _walk(name, path, depth)
                _walk(item, _joined(path, name[:NAME_SHOWN_CHARS_MAX]), depth + 1)
    elif isinstance(value, list):
        for item in value:
            if not isinstance(item, int | float):
                _walk(item, path, depth + 1)


def _too_deep() -> errors.InvalidInput:
    return errors.InvalidInput(f"body: must be nested at most {NESTING_MAX} deep", field="body")


def too_slow() -> errors.InvalidInput:
    """What a body that takes longer than `BODY_SECONDS_MAX` is told."""
    return errors.InvalidInput(f"body: must arrive within {BODY_SECONDS_MAX:.0f} seconds", field="body")


class EdgeRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded into the handler's own type in one pass."""

    async def body(self) -> bytes:
        """The whole body; TooLarge after the client had a chance to read the answer."""
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                read = await super().body()
        except TimeoutError:
            raise too_slow() from None
        except HTTPException as error:
            if error.status_code == 413:
                await self._drain()
                raise errors.TooLarge(f"body: must be at most {BODY_BYTES_MAX} bytes", field="body") from None
            # The only other one: the client went away in the middle. Nobody reads this answer.
            raise errors.InvalidInput("body: ended too early", field="body") from None
        if not read and self.route_handler.parsed_data_field is not None:
            raise errors.InvalidInput("body: must be a JSON object", field="body")
        return read

    async def json(self) -> Any:
        """The body as the type of the handler's `data`."""
        self._check_media_type()
        field = self.route_handler.parsed_data_field
        return decode_body(await self.body(), Any if field is None else field.annotation)

    def _check_media_type(self) -> None:
        given = self.headers.get("content-type", "")
        kind, _, parameters = given.partition(";")
        charset = parameters.partition("charset=")[2].strip().strip('"').lower()
        if given and (kind.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8")):
            raise errors.UnsupportedMedia("content-type: must be application/json", field="content-type")

    async def _drain(self) -> None:
        """Read on for a while: an answer to a client that is still sending is lost in the reset."""
        left = DRAINED_BYTES_MAX
        try:
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                while left > 0:
                    event = await self.receive()
                    if event["type"] != "http.request" or not event.get("more_body", False):
                        return
                    left -= len(event["body"])
        except TimeoutError:
            return


def from_this_machine(scope: Mapping[str, Any]) -> bool:
    """Whether an ASGI request comes from this machine, for nobody elsewhere.

    The Host header is checked too, or a web page elsewhere could ask through DNS rebinding; and a forwarded
    request comes from a proxy on this machine for somebody who is not.
    """
    client = scope.get("client")
    names = {name.lower(): value for name, value in scope["headers"]}
    host = names.get(b"host", b"").decode("latin-1").lower()
    name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    if client is None or not _FORWARDED.isdisjoint(names):
        return False
    return _is_loopback(client[0]) and _is_loopback(name)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@cache
def query_names(handler: BaseRouteHandler) -> frozenset[str]:
    """The query parameters of a handler. What is injected looks like one, and is none."""
    names = frozenset(
        field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, ParameterKwarg)
        and field.kwarg_definition.param_type.value == "query"
    )
    return names - handler.resolve_dependencies().keys()


async def check_query(request: Request[Any, Any, Any]) -> None:
    """InvalidInput for a query parameter that the handler does not read, or that is given twice."""
    if not request.scope["query_string"] or request.route_handler.opt.get(ANY_QUERY):
        return
    names = query_names(request.route_handler)
    for name in request.query_params:
        shown = name[:NAME_SHOWN_CHARS_MAX]
        if name not in names:
            raise errors.InvalidInput(f"{shown}: there is no such query parameter", field=shown)
        if len(request.query_params.getall(name)) > 1:
            raise errors.InvalidInput(f"{shown}: must be given once", field=shown)
