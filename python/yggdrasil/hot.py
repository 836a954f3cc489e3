"""The plain forms of the requests that are asked most, answered before the router.

The router takes as long to find a handler, inject its arguments and build its answer as these handlers take
to work. What stands here is only the way in and out: services, checks and errors are the same, and whatever
is not in its plainest form (another parameter, a wish in a header, a body that is not what it should be, a
stream) goes on to the router untouched. `tests/live/test_hot.py` holds both ways against each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from litestar.enums import ScopeType

from yggdrasil import problems
from yggdrasil.devices.model import DEVICE_ID_PATTERN
from yggdrasil.devices.paging import LIMIT_DEFAULT
from yggdrasil.edge import BODY_SECONDS_MAX, CALLER, EdgeRequest, decode_body, too_slow
from yggdrasil.errors import InvalidInput
from yggdrasil.hangup import Attendance
from yggdrasil.openai import routes as openai
from yggdrasil.openai.shapes import HEADER_PREFIX, ChatCompletion

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

    from yggdrasil.devices.service import Devices
    from yggdrasil.marketplace.service import Marketplace
    from yggdrasil.users.service import Users

DEVICES: Final = "/api/v1/devices"
DEVICE: Final = DEVICES + "/{device_id}"
CHAT: Final = "/v1/chat/completions"
BODY_BYTES_MAX: Final = 256 * 1024
"""A larger body is no plain request."""

_PAGE: Final = re.compile(rb"(?:limit=([0-9]{1,3}))?(?:(?:^|&)cursor=([A-Za-z0-9_-]+))?")
_WISH: Final = HEADER_PREFIX.encode()
_encode: Final = msgspec.json.Encoder().encode

Answer = tuple[bytes, list[tuple[bytes, bytes]]]
"""The JSON of a 200, and its headers beside type and length."""


class Hot:
    """ASGI middleware around the router."""

    def __init__(self, app: ASGIApp, *, users: Users, devices: Devices, marketplace: Marketplace) -> None:
        self._app = app
        self._users = users
        self._devices = devices
        self._marketplace = marketplace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            path, method = scope["path"], scope["method"]
            if method == "GET" and path.startswith(DEVICES):
                answer = self._device_page(scope) if path == DEVICES else self._device(scope)
                if answer is not None:
                    await _answered(scope, receive, send, answer)
                    return
            elif method == "POST" and path == CHAT:
                headers = _plain_chat_headers(scope)
                if headers is not None:
                    await self._chat(headers, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _device_page(self, scope: Scope) -> Callable[[], Awaitable[Answer]] | None:
        found = _PAGE.fullmatch(scope["query_string"])
        if found is None:
            return None
        limit = LIMIT_DEFAULT if found[1] is None else int(found[1])
        cursor = None if found[2] is None else found[2].decode()
        _matched(scope, DEVICES)

        async def answer() -> Answer:
            caller = await self._users.authenticate(_authorization(scope))
            scope[CALLER] = caller  # type: ignore[typeddict-unknown-key]
            page = await self._devices.page(caller, everyone=False, limit=limit, cursor=cursor)
            return _encode(page), []

        return answer

    def _device(self, scope: Scope) -> Callable[[], Awaitable[Answer]] | None:
        prefix, _, device_id = scope["path"].rpartition("/")
        if prefix != DEVICES or scope["query_string"] or not DEVICE_ID_PATTERN.match(device_id):
            return None
        _matched(scope, DEVICE)

        async def answer() -> Answer:
            caller = await self._users.authenticate(_authorization(scope))
            scope[CALLER] = caller  # type: ignore[typeddict-unknown-key]
            return _encode(await self._devices.get(caller, device_id)), []

        return answer

    async def _chat(self, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send) -> None:
        _matched(scope, CHAT)
        try:
            body, read = await _body(receive)
        except InvalidInput as error:
            await _refused(scope, receive, send, error)
            return
        data: ChatCompletion | None = None
        with contextlib.suppress(InvalidInput):
            data = decode_body(body, ChatCompletion) if body else None
        if data is None or data.stream:
            await self._app(scope, _again(read, receive), send)
            return
        asked = data

        async def answer() -> Answer:
            authorization = headers.get(b"authorization")
            caller = await self._users.authenticate(
                None if authorization is None else authorization.decode("latin-1")
            )
            scope[CALLER] = caller  # type: ignore[typeddict-unknown-key]
            run = await openai.begin_chat(self._marketplace, caller, asked, {})
            last = await run.outcome()
            added = openai.headers_of(last).items()
            return _encode(openai.whole(last)), [(name.encode(), value.encode()) for name, value in added]

        with Attendance(receive) as there:
            there.look_later()
            await _answered(scope, receive, send, answer)


def _matched(scope: Scope, route: str) -> None:
    """As the router does it: measures and logs know the template only."""
    scope["path_template"] = route


def _authorization(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return value.decode("latin-1")
    return None


def _plain_chat_headers(scope: Scope) -> dict[bytes, bytes] | None:
    """The first value of each header; None if one of them says more than what the body says."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name.startswith(_WISH) or name == b"idempotency-key":
            return None
        headers.setdefault(name, value)
    length = headers.get(b"content-length", b"")
    if headers.get(b"content-type") != b"application/json" or not length.isdigit():
        return None
    return headers if 0 < int(length) <= BODY_BYTES_MAX else None


async def _body(receive: Receive) -> tuple[bytes, list[Any]]:
    """The body, nothing if the client left in the middle; and the events that were read. InvalidInput if it
    takes too long."""
    events: list[Any] = []
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            while True:
                event: Any = await receive()
                events.append(event)
                if event["type"] != "http.request":
                    return b"", events
                if not event.get("more_body", False):
                    return b"".join(part.get("body", b"") for part in events), events
    except TimeoutError:
        raise too_slow() from None


def _again(events: list[Any], receive: Receive) -> Receive:
    """`receive` for somebody who has seen nothing yet."""
    left = events[::-1]

    async def read() -> Any:
        return left.pop() if left else await receive()

    return read


async def _answered(
    scope: Scope, receive: Receive, send: Send, answer: Callable[[], Awaitable[Answer]]
) -> None:
    try:
        body, headers = await answer()
    except Exception as error:
        await _refused(scope, receive, send, error)
        return
    head = [
        *headers,
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send(cast("Message", {"type": "http.response.start", "status": 200, "headers": head}))
    await send(cast("Message", {"type": "http.response.body", "body": body, "more_body": False}))


async def _refused(scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
    """As the router answers an exception."""
    request = EdgeRequest(scope, receive, send)
    response = problems.handle(request, error).to_asgi_response(None, request)
    await response(scope, receive, send)
