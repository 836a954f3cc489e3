"""`database.transaction(scope)`: the only way to the database, but for `database.call`: one function that
sets the scope of each item it is given.

BEGIN and the scope travel in one simple-protocol message, so no statement can slip in between and the scope
costs no round
trip of its own. Values in that message are UUIDs and enum members only, formatted here: nothing a caller
wrote.
"""

# ruff: noqa: SLF001  the classes of this module are one thing in three parts
from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import asyncpg
from piccolo.query.base import Query

from yggdrasil import tracing
from yggdrasil.db.engine import compile_query
from yggdrasil.db.pool import RolePool
from yggdrasil.errors import ScopeError, Unavailable
from yggdrasil.kernel import Clock, Identity, IdSource, Market, Network, Role, Scope, Settle, System

ROLLBACK_SECONDS_MAX: Final = 5.0
ROLE_OF_SCOPE: Final[dict[type, str]] = {
    Network: "ygg_network",
    Identity: "ygg_identity",
    Market: "ygg_market",
    Settle: "ygg_settle",
    System: "ygg_system",
}
BATCH_FUNCTIONS: Final = frozenset({"admit_batch", "finish_batch"})
"""Functions of the schema `platform` that set the scope of each of their items themselves."""
JOB_RULE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")

_LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    ConnectionError,
    TimeoutError,
    OSError,
)
_TRY_AGAIN: Final = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InsufficientResourcesError,
)

_open_transactions: ContextVar[tuple[Tx, ...]] = ContextVar("_open_transactions", default=())


class Tx:
    """A transaction under a scope. Valid until its `async with` ends, one statement at a time."""

    __slots__ = ("_connection", "_owner", "_savepoints", "_task", "scope")

    def __init__(self, scope: Scope | None, connection: asyncpg.Connection, owner: object) -> None:
        self.scope = scope
        self._connection: asyncpg.Connection | None = connection
        self._owner = owner
        self._task = asyncio.current_task()
        self._savepoints = 0

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """All rows."""
        return await self._ask(self._live().fetch, sql, *args)  # type: ignore[no-any-return]

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        return await self._ask(self._live().fetchrow, sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        return await self._ask(self._live().fetchval, sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        """The status tag, such as "UPDATE 1"."""
        return await self._ask(self._live().execute, sql, *args)  # type: ignore[no-any-return]

    async def executemany(self, sql: str, args: Iterable[Any]) -> None:
        """One statement for many argument rows."""
        await self._ask(self._live().executemany, sql, args)

    async def run(self, query: Query[Any, Any]) -> list[dict[str, Any]]:
        """A Piccolo query on this connection; rows as dicts by column name. JSON columns come as text."""
        rows: list[dict[str, Any]] = []
        for sql, args in compile_query(query):
            rows.extend(dict(record) for record in await self.fetch(sql, *args))
        return rows

    async def clock(self) -> datetime:
        """The database's clock at this moment (not at the transaction's start): for leases, which
        several nodes compare.
        """
        return await self.fetchval("SELECT clock_timestamp()")  # type: ignore[no-any-return]

    def savepoint(self) -> Savepoint:
        """`async with tx.savepoint():` an error inside undoes what was done inside, and leaves the
        transaction usable.
        """
        return Savepoint(self)

    def _live(self) -> asyncpg.Connection:
        if self._connection is None:
            raise ScopeError("this transaction has ended")
        return self._connection

    async def _ask(self, method: Callable[..., Any], *args: Any) -> Any:
        try:
            asked = method(*args)
            return await (asked if tracing.installed is None else tracing.statement(asked, args[0]))
        except Exception as error:
            seen = translate(error, self._connection)
            if seen is error:
                raise
            raise seen from error


class Savepoint:
    """A real SAVEPOINT; they nest."""

    __slots__ = ("_name", "_tx")

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        tx._savepoints += 1
        self._name = f"s{tx._savepoints}"

    async def __aenter__(self) -> Self:
        await self._tx.execute(f"SAVEPOINT {self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        if self._tx._connection is None or self._tx._connection.is_closed():
            return
        if kind is not None:
            await self._tx.execute(f"ROLLBACK TO SAVEPOINT {self._name}")
        await self._tx.execute(f"RELEASE SAVEPOINT {self._name}")


def translate(error: BaseException, connection: asyncpg.Connection | None) -> BaseException:
    """What the caller should see: trouble that passes is Unavailable; the rest stays what it was."""
    if isinstance(error, _LOST):
        return Unavailable("the database connection was lost", retry_after_seconds=1)
    if isinstance(error, _TRY_AGAIN):
        return Unavailable("the database could not finish this in time", retry_after_seconds=1)
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        if connection is None or connection.is_closed():
            return Unavailable("the database connection was lost", retry_after_seconds=1)
        return ScopeError(f"the connection was used wrongly: {error}")
    return error


class TransactionContext:
    """BEGIN on entry; COMMIT, or ROLLBACK after an error, on exit.

    The connection goes back clean or is cut.
    """

    __slots__ = ("_begin", "_owner", "_pool", "_scope", "_tx")

    def __init__(self, owner: object, pool: RolePool, scope: Scope | None, begin: str) -> None:
        self._owner = owner
        self._pool = pool
        self._scope = scope
        self._begin = begin
        self._tx: Tx | None = None

    async def __aenter__(self) -> Tx:
        if self._tx is not None:
            raise ScopeError("a transaction context is used once")
        task = asyncio.current_task()
        still_open = tuple(
            tx for tx in _open_transactions.get() if tx._connection is not None and tx._task is task
        )
        if any(tx._owner is self._owner for tx in still_open):
            raise ScopeError("a transaction inside a transaction: pass the outer `tx` on instead")
        connection = await self._acquire_and_begin()
        self._tx = Tx(self._scope, connection, self._owner)
        _open_transactions.set((*still_open, self._tx))
        return self._tx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        tx = self._tx
        if tx is None or tx._connection is None:
            return
        connection, tx._connection = tx._connection, None
        _open_transactions.set(tuple(other for other in _open_transactions.get() if other is not tx))
        clean = False
        try:
            if kind is None:
                clean = await self._commit(connection)
            elif not connection.is_closed():
                await connection.execute("ROLLBACK", timeout=ROLLBACK_SECONDS_MAX)
                clean = True
        except (Exception, asyncio.CancelledError) as failure:
            # The connection is cut below, and with it what PostgreSQL had not committed.
            seen = translate(failure, connection)
            if isinstance(failure, asyncio.CancelledError) or (kind is None and seen is failure):
                raise
            if kind is None:
                raise seen from failure
        finally:
            self._pool.release(connection, clean=clean)

    async def _commit(self, connection: asyncpg.Connection) -> bool:
        status = await connection.execute("COMMIT")
        if status != "COMMIT":
            # PostgreSQL answers COMMIT of a failed transaction with ROLLBACK: someone swallowed the error.
            raise ScopeError(
                "an error inside the transaction was swallowed: nothing was kept; use tx.savepoint()"
            )
        return True

    async def _acquire_and_begin(self) -> asyncpg.Connection:
        """Connections of a pool die together when PostgreSQL restarts: try the others, then a fresh one."""
        network = self._scope.network_id if isinstance(self._scope, Network) else None
        for attempt in range(self._pool.connections_max + 1):
            connection = await self._pool.acquire(network)
            try:
                await connection.execute(self._begin)
            except BaseException as error:
                self._pool.release(connection, clean=False)
                seen = translate(error, connection)
                lost = isinstance(seen, Unavailable) and not isinstance(error, TimeoutError)
                if lost and attempt < self._pool.connections_max:
                    continue
                if seen is error:
                    raise
                raise seen from error
            return connection
        raise Unavailable("the database connection was lost", retry_after_seconds=1)


class Database:
    """The main database: five pools, one for each kind of scope.

    `clock` and `ids` are for the audit of System scopes alone.
    """

    def __init__(self, pools: dict[str, RolePool], *, clock: Clock, ids: IdSource) -> None:
        missing = sorted(set(ROLE_OF_SCOPE.values()) - set(pools))
        if missing:
            raise ScopeError(f"no pool for {', '.join(missing)}")
        self.pools = pools
        self._clock = clock
        self._ids = ids

    def transaction(self, scope: Scope) -> AbstractAsyncContextManager[Tx]:
        """`async with database.transaction(scope) as tx:` commits at the end, rolls back on any error, never
        nests.

        Errors: ScopeError for a scope that is none, Unavailable for a database that is away or too busy.
        """
        role = ROLE_OF_SCOPE.get(type(scope))
        if role is None:
            raise ScopeError(f"not a scope: {type(scope).__name__}")
        begin = begin_sql(scope)
        if isinstance(scope, System):
            begin = self._audit_sql(scope) + begin
        opening = TransactionContext(self, self.pools[role], scope, begin)
        return opening if tracing.installed is None else tracing.transaction(opening, role)

    async def call(self, function: str, items: Sequence[tuple[Any, ...]]) -> list[str]:
        """`platform.<function>(items)`, one of `BATCH_FUNCTIONS`, as a transaction of its own: one round
        trip, durable when it is answered. Every item carries the networks of its own Settle scope, which the
        function sets before it touches their rows; what the session had before is overwritten first, and
        nothing is left behind.

        Answers each item's outcome, in order. Errors: Unavailable (whether it was committed is then unknown),
        ScopeError for a function that is none of them; PostgreSQL's own errors, with nothing written."""
        if function not in BATCH_FUNCTIONS:
            raise ScopeError(f"not a function that sets scopes: {function}")
        pool = self.pools[ROLE_OF_SCOPE[Settle]]
        connection = await pool.acquire()
        clean = False
        try:
            outcomes: list[str] = await connection.fetchval(f"SELECT platform.{function}($1)", items)
            clean = True
        except Exception as error:
            seen = translate(error, connection)
            # Without a transaction block an error has ended everything; without an answer, nobody knows.
            clean = isinstance(error, asyncpg.PostgresError) and not isinstance(error, _LOST)
            if seen is error:
                raise
            raise seen from error
        finally:
            pool.release(connection, clean=clean)
        return outcomes

    async def close(self) -> None:
        """Close all pools; transactions still open are rolled back."""
        for pool in self.pools.values():
            await pool.close()

    def _audit_sql(self, scope: System) -> str:
        """The audit row is committed before the job reads its first row, so that a rollback does not
        hide the use.
        """
        at = self._clock.now().isoformat()
        return (
            f"{begin_sql(scope)}; INSERT INTO jobs.audit (id, job, scope, detail, at)"  # noqa: S608  own values only
            f" VALUES ('{_uuid(self._ids.uuid())}', '{scope.job}', 'system', '', '{at}'); COMMIT; "
        )


def begin_sql(scope: Scope) -> str:
    """BEGIN and the five settings, every one of them always set: a value left behind by another can
    never be read.
    """
    network = user = role = networks = job = ""
    match scope:
        case Network():
            network, user = _uuid(scope.network_id), _uuid(scope.user_id)
            if not isinstance(scope.role, Role):
                raise ScopeError("Network: role must be a Role")
            role = scope.role.value
        case Identity():
            network = "" if scope.network_id is None else _uuid(scope.network_id)
            user = "" if scope.user_id is None else _uuid(scope.user_id)
        case Settle():
            networks = ",".join(_uuid(network_id) for network_id in scope.networks)
        case System():
            if not isinstance(scope.job, str) or JOB_RULE.fullmatch(scope.job) is None:
                raise ScopeError(
                    "System: job must be 1 to 64 characters a-z, 0-9, '_', '.', '-', beginning with a letter"
                )
            job = scope.job
        case Market():
            pass
    return (
        # RESET ALL undoes what a statement might have left on the session (a SET without LOCAL).
        # `user` is a keyword, so all are quoted.
        f"RESET ALL; BEGIN; SET LOCAL app.\"network\" = '{network}'; SET LOCAL app.\"user\" = '{user}'; "
        f"SET LOCAL app.\"role\" = '{role}'; SET LOCAL app.\"networks\" = '{networks}'; "
        f"SET LOCAL app.\"job\" = '{job}'"
    )


def _uuid(value: object) -> str:
    if not isinstance(value, UUID):
        raise ScopeError(f"a scope holds UUID objects, not {type(value).__name__}")
    return str(UUID(int=value.int))
