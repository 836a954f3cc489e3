"""A database and a gateway that die at a chosen step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from yggdrasil.ports import Charge


class Crash(BaseException):
    """The process is gone: nothing after this point runs."""


class Brittle:
    """Counts the steps before and after each transaction and each call of the gateway, and dies at one."""

    name = "sandbox"

    def __init__(
        self, database: Any, gateway: Any, die_at: int, die: Callable[[], None] | None = None
    ) -> None:
        self.database, self.gateway, self.die_at, self.steps = database, gateway, die_at, 0
        self.die = die or _crash

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.die_at:
            self.die()

    def transaction(self, scope: Any) -> Any:
        brittle = self

        class Context:
            def __init__(self) -> None:
                self.inner = brittle.database.transaction(scope)

            async def __aenter__(self) -> Any:
                brittle.step()
                return await self.inner.__aenter__()

            async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
                try:
                    if kind is None:
                        brittle.step()
                except Crash as crash:  # before the commit: PostgreSQL rolls back
                    await self.inner.__aexit__(Crash, crash, None)
                    raise
                await self.inner.__aexit__(kind, error, trace)
                if kind is None:
                    brittle.step()

        return Context()

    async def charge(self, **values: Any) -> Charge:
        self.step()
        charge = await self.gateway.charge(**values)
        self.step()
        return charge  # type: ignore[no-any-return]

    async def find_charge(self, key: UUID) -> Charge | None:
        self.step()
        found = await self.gateway.find_charge(key)
        self.step()
        return found  # type: ignore[no-any-return]


def _crash() -> None:
    raise Crash
