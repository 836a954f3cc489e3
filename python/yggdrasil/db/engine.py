"""Piccolo builds queries here and runs none: its engine opens nothing and refuses everything.

A query reaches PostgreSQL only through `tx.run(query)`, which is to say inside a scope.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from piccolo.engine.base import Engine
from piccolo.query.base import Query

from yggdrasil.errors import ScopeError


class ScopedEngine(Engine[Any]):
    """Compiles for PostgreSQL; everything that would touch a database raises ScopeError."""

    __slots__ = ()

    def __init__(self) -> None:
        # Engine.__init__ asks the database for its version: not called.
        self.engine_type = "postgres"
        self.min_version_number = 15
        self.log_queries = self.log_responses = False
        self.query_id = 0

    async def get_version(self) -> float:
        return self.get_version_sync()

    def get_version_sync(self) -> float:
        return float(self.min_version_number)

    async def prep_database(self) -> None:
        _refuse()

    async def batch(self, query: Any, batch_size: int = 100, node: str | None = None) -> NoReturn:  # noqa: ARG002
        _refuse()

    async def run_querystring(self, querystring: Any, in_pool: bool = True) -> NoReturn:  # noqa: ARG002
        _refuse()

    async def run_ddl(self, ddl: str, in_pool: bool = True) -> NoReturn:  # noqa: ARG002
        _refuse()

    def transaction(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002
        _refuse()

    def atomic(self) -> NoReturn:
        _refuse()

    async def start_connection_pool(self) -> None:
        _refuse()

    async def close_connection_pool(self) -> None:
        _refuse()


def _refuse() -> NoReturn:
    raise ScopeError(
        "a query outside a scope: use `async with database.transaction(scope) as tx: await tx.run(query)`"
    )


ENGINE: Final = ScopedEngine()


def compile_query(query: Query[Any, Any]) -> list[tuple[str, list[Any]]]:
    """SQL with $n placeholders and its arguments, one pair for each statement of the query."""
    # Not `_meta.db`: for a table without one it looks for an engine by a name from the environment, which
    # could be one that connects, and loads a formatter of source code on the way.
    if query.table._meta._db is not ENGINE:  # noqa: SLF001  Piccolo has no public way to ask
        raise ScopeError(f"{query.table.__name__} is not tied to the scoped engine: db=ENGINE")
    query._validate()  # type: ignore[no-untyped-call]  # noqa: SLF001  refuses `delete` and `update` without `where`
    return [querystring.compile_string(engine_type="postgres") for querystring in query.querystrings]
