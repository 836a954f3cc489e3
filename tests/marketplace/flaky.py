"""A database that goes away: before a transaction, or in the middle of its commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, cast

from tests.marketplace.world import World
from yggdrasil.db import Database
from yggdrasil.errors import Unavailable
from yggdrasil.kernel import Scope


class Flaky:
    """`down`: nothing begins. `lose_commits`: that many transactions are committed, and nobody hears of it.
    `gate`: a commit waits for it; `at_gate` says that one does."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.down = False
        self.lose_commits = 0
        self.refused = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_gate = asyncio.Event()

    def transaction(self, scope: Scope) -> _Context:
        return _Context(self, self.database.transaction(scope))

    async def call(self, function: str, items: Sequence[tuple[Any, ...]]) -> list[str]:
        async with _Context(self, contextlib.nullcontext()):
            return await self.database.call(function, items)


class _Context:
    def __init__(self, flaky: Flaky, inner: Any) -> None:
        self.flaky, self.inner = flaky, inner

    async def __aenter__(self) -> Any:
        if self.flaky.down:
            self.flaky.refused += 1
            raise Unavailable("the database is away")
        return await self.inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        await self.inner.__aexit__(kind, error, trace)
        if kind is not None:
            return
        self.flaky.at_gate.set()
        await self.flaky.gate.wait()
        if self.flaky.lose_commits:
            self.flaky.lose_commits -= 1
            raise Unavailable("the database connection was lost")


def flaky(world: World) -> Flaky:
    """The database of the world's runs, from now on."""
    made = Flaky(world.database)
    world.market._serving._records._database = cast(Database, made)
    return made
