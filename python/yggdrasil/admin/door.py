"""The door before `/api/v1/admin` and `/health/isolation`: to everybody but operators nothing is there.

It stands around the router, which would otherwise tell a known path from an unknown one by its answers to
wrong methods, query parameters and bodies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from litestar.enums import ScopeType

from yggdrasil.admin.credential import OperatorScope
from yggdrasil.errors import NotFound

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

    from yggdrasil.admin.operators import Operators

PREFIX: Final = "/api/v1/admin"
OPERATOR: Final = "operator"
_NOWHERE: Final = "/api/v1/there-is-no-such-path"


class OperatorDoor:
    """ASGI middleware: puts the operator into the scope, or sends the request to an unknown path."""

    def __init__(self, app: ASGIApp, operators: Operators) -> None:
        self._app = app
        self._operators = operators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and _is_behind(scope["path"]):
            operator = await self._operators.find(_authorization(scope))
            changed: dict[str, Any] = {**scope, OPERATOR: operator}
            if operator is None:
                changed |= {"path": _NOWHERE, "raw_path": _NOWHERE.encode()}
            scope = cast("Scope", changed)
        await self._app(scope, receive, send)


def operator_of(scope: Scope) -> OperatorScope:
    """The operator whom the door let in. NotFound if it did not: the lock behind the door."""
    operator = cast("dict[str, Any]", scope).get(OPERATOR)
    if not isinstance(operator, OperatorScope):
        raise NotFound
    return operator


def _is_behind(path: str) -> bool:
    parts = [part for part in path.split("/") if part]
    return parts[:3] == ["api", "v1", "admin"] or parts == ["health", "isolation"]


def _authorization(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name.lower() == b"authorization":
            return value.decode("latin-1")
    return None
