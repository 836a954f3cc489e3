"""The door that counts by source address what is asked before anybody is known: sign-in, and new sockets.

Its refusal depends on the address and on nothing else, so it tells of no account and no network.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, cast

from litestar.enums import ScopeType

from yggdrasil import problems
from yggdrasil.edge import EdgeRequest
from yggdrasil.errors import LimitReached
from yggdrasil.quotas.addresses import HeaderName, Network, client_of, group_of
from yggdrasil.quotas.bucket import Buckets
from yggdrasil.wire import messages
from yggdrasil.wire.limits import SUBPROTOCOL, CloseCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.types import ASGIApp, Receive, Scope, Send

    from yggdrasil.kernel import Clock

BURST_SECONDS: Final = 60
"""As many at once as come free in this time: whole offices sit behind one address."""
SIGN_IN: Final = frozenset(
    f"/api/v1/users/{name}"
    for name in ("register", "login", "verify", "refresh", "switch", "hand-overs/ask", "hand-overs/take")
)


ASKS_FOR_CODE: Final = frozenset(f"/api/v1/users/{name}" for name in ("register", "login", "hand-overs/ask"))
CODES_PART: Final = 10
"""Of so many sign-in requests one may ask for a mailed code. A node mails only so many in a minute, to all:
no address may have them for itself."""


class SourceDoor:
    """ASGI middleware. `per_minute`: of sign-in requests, and as many new sockets, from one source; 0: no
    limit. `trusted` proxies write `header`.

    Without them the source is the peer, but where everybody would be one source: a server that is
    `behind_proxy`, and a peer on this machine, which may be a proxy that nobody told of. Nothing is counted
    there, so that one client cannot keep all others out.
    """

    def __init__(
        self,
        app: ASGIApp,
        clock: Clock,
        *,
        per_minute: int,
        trusted: Sequence[Network],
        header: HeaderName = "x-forwarded-for",
        behind_proxy: bool = False,
    ) -> None:
        self._app, self._clock, self._trusted, self._header = app, clock, trusted, header
        self._blind = behind_proxy and not trusted
        self._per_minute = per_minute
        self._codes_per_minute = max(1, per_minute // CODES_PART)
        self._sign_ins, self._sockets = _buckets(per_minute), _buckets(per_minute)
        self._codes = _buckets(self._codes_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._look(scope) if self._per_minute else None
        if refused is None:
            await self._app(scope, receive, send)
        elif scope["type"] == ScopeType.WEBSOCKET:
            await _turn_away(refused, scope, receive, send)
        else:
            request = EdgeRequest(cast("Any", scope), receive, send)
            response = problems.handle(request, refused).to_asgi_response(None, request)
            await response(scope, receive, send)

    def _look(self, scope: Scope) -> LimitReached | None:
        if scope["type"] == ScopeType.WEBSOCKET:
            return self._take(scope, self._sockets, "new sockets", self._per_minute)
        if scope["type"] != ScopeType.HTTP or "/users/" not in scope["path"]:
            return None
        # As the router takes a path: empty parts are nothing.
        path = "/" + "/".join(part for part in scope["path"].split("/") if part)
        if path not in SIGN_IN:
            return None
        refused = self._take(scope, self._sign_ins, "sign-in requests", self._per_minute)
        if refused is None and path in ASKS_FOR_CODE:
            refused = self._take(scope, self._codes, "codes", self._codes_per_minute)
        return refused

    def _take(self, scope: Scope, buckets: Buckets[bytes], what: str, most: int) -> LimitReached | None:
        source = self._source(scope)
        wait = 0.0 if source is None else buckets.take(source, self._clock.monotonic())
        if not wait:
            return None
        seconds = max(1, math.ceil(wait))
        return LimitReached(
            f"At most {most} {what} a minute from one address; the next is free in {seconds} s",
            retry_after_seconds=seconds,
            limit=most,
            used=most,
        )

    def _source(self, scope: Scope) -> bytes | None:
        """What is counted as one; None if nobody knows where this comes from."""
        peer: Any = scope.get("client")
        if self._blind or not peer:
            return None
        address = client_of(peer[0], scope["headers"], self._trusted, self._header)
        if address is None or (address.is_loopback and not self._trusted):
            return None
        return group_of(address)


def _buckets(per_minute: int) -> Buckets[bytes]:
    rate = per_minute / 60
    return Buckets(rate * BURST_SECONDS, rate)


async def _turn_away(error: LimitReached, scope: Any, receive: Receive, send: Send) -> None:
    """A socket that is told why, and to dial again."""
    await receive()
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None
    steps: list[dict[str, Any]] = [
        {"type": "websocket.accept", "subprotocol": subprotocol, "headers": []},
        {"type": "websocket.send", "text": messages.refusal(error), "bytes": None},
        {"type": "websocket.close", "code": int(CloseCode.FULL), "reason": error.code},
    ]
    for message in steps:
        await send(cast("Any", message))
