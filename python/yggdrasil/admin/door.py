"""The door before `/api/v1/admin`, `/health/isolation` and `/metrics`: to all but operators nothing is there.

What a node counts (sockets, requests, offers) tells whoever reads it twice what others do. Besides operators
only somebody on this machine may read it, as a collector beside the server does; behind a proxy everybody
seems to be on this machine, so there it takes an operator's credential.

It stands around the router, which would otherwise tell a known path from an unknown one by its answers to
wrong methods, query parameters and bodies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from litestar.enums import ScopeType

from yggdrasil.admin.credential import OperatorScope
from yggdrasil.edge import from_this_machine
from yggdrasil.errors import NotFound

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

    from yggdrasil.admin.operators import Operators

PREFIX: Final = "/api/v1/admin"
METRICS: Final = ["metrics"]
OPERATOR: Final = "operator"
_NOWHERE: Final = "/api/v1/there-is-no-such-path"


class OperatorDoor:
    """ASGI middleware: puts the operator into the scope, or sends the request to an unknown path."""

    def __init__(self, app: ASGIApp, operators: Operators, *, behind_proxy: bool) -> None:
        self._app = app
        self._operators = operators
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and self._is_behind(scope):
            operator = await self._operators.find(_authorization(scope))
            changed: dict[str, Any] = {**scope, OPERATOR: operator}
            if operator is None:
                changed |= {"path": _NOWHERE, "raw_path": _NOWHERE.encode()}
            scope = cast("Scope", changed)
        await self._app(scope, receive, send)

    def _is_behind(self, scope: Scope) -> bool:
        parts = [part for part in scope["path"].split("/") if part]
        if parts == METRICS:
            return self._behind_proxy or not from_this_machine(cast("dict[str, Any]", scope))
        return parts[:3] == ["api", "v1", "admin"] or parts == ["health", "isolation"]


def operator_of(scope: Scope) -> OperatorScope:
    """The operator whom the door let in. NotFound if it did not: the lock behind the door."""
    operator = cast("dict[str, Any]", scope).get(OPERATOR)
    if not isinstance(operator, OperatorScope):
        raise NotFound
    return operator


def _authorization(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name.lower() == b"authorization":
            return value.decode("latin-1")
    return None
