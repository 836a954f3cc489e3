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
from yggdrasil.quotas.addresses import Network, client_of, group_of
from yggdrasil.quotas.bucket import Buckets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.types import ASGIApp, Receive, Scope, Send

    from yggdrasil.kernel import Clock

BURST_SECONDS: Final = 60
"""As many at once as come free in this time: whole offices sit behind one address."""
TRY_AGAIN_LATER: Final = 1013
"""The WebSocket close code of that meaning; clients of ours dial again with back-off."""
SIGN_IN: Final = frozenset(
    f"/api/v1/users/{name}"
    for name in ("register", "login", "verify", "refresh", "hand-overs/ask", "hand-overs/take")
)


class SourceDoor:
    """ASGI middleware. `per_minute`: of sign-in requests, and as many new sockets, from one source; 0: no
    limit."""

    def __init__(self, app: ASGIApp, clock: Clock, *, per_minute: int, trusted: Sequence[Network]) -> None:
        self._app, self._clock, self._trusted = app, clock, trusted
        self._per_minute = per_minute
        rate = per_minute / 60
        self._buckets: dict[str, Buckets[bytes]] = {
            kind: Buckets(rate * BURST_SECONDS, rate) for kind in (ScopeType.HTTP, ScopeType.WEBSOCKET)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if self._per_minute and (kind == ScopeType.WEBSOCKET or scope["path"] in SIGN_IN):
            wait = self._take(kind, scope)
            if wait:
                await self._refuse(wait, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _take(self, kind: str, scope: Scope) -> float:
        peer: Any = scope.get("client")
        address = client_of(peer[0] if peer else None, scope["headers"], self._trusted)
        # Without an address there is one source: whoever has the Unix socket.
        group = b"" if address is None else group_of(address)
        return self._buckets[kind].take(group, self._clock.monotonic())

    async def _refuse(self, wait: float, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = max(1, math.ceil(wait))
        if scope["type"] == ScopeType.WEBSOCKET:
            await receive()
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            await send(
                {"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": f"try again in {seconds} s"}
            )
            return
        error = LimitReached(
            f"At most {self._per_minute} sign-in requests a minute from one address; the next is free in"
            f" {seconds} s",
            retry_after_seconds=seconds,
            limit=self._per_minute,
            used=self._per_minute,
        )
        request = EdgeRequest(cast("Any", scope), receive, send)
        response = problems.handle(request, error).to_asgi_response(None, request)
        await response(scope, receive, send)
