"""What can happen to a transaction of the pool chaos, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

from yggdrasil.db import Tx
from yggdrasil.errors import ScopeError
from yggdrasil.kernel import Network, Scope

if TYPE_CHECKING:
    from tests.db.pool_chaos import Chaos

INSERT = "INSERT INTO tenant.chaos (network_id, id, other) VALUES ($1, $2, $3)"


async def _raise(_: Chaos, __: Tx, ___: Scope) -> None:
    raise LookupError


async def _divide(_: Chaos, tx: Tx, __: Scope) -> None:
    await tx.execute("SELECT 1/0")


async def _swallow(_: Chaos, tx: Tx, __: Scope) -> None:
    """An error swallowed: what follows fails, and COMMIT answers ROLLBACK."""
    with suppress(asyncpg.DivisionByZeroError):
        await tx.execute("SELECT 1/0")


async def _slow_statement(_: Chaos, tx: Tx, __: Scope) -> None:
    await tx.execute("SET LOCAL statement_timeout = '1ms'")
    await tx.execute("SELECT pg_sleep(1)")


async def _slow_task(_: Chaos, tx: Tx, __: Scope) -> None:
    async with asyncio.timeout(0.002):
        await tx.execute("SELECT pg_sleep(1)")


async def _killed(chaos: Chaos, tx: Tx, _: Scope) -> None:
    await chaos.kill(await tx.fetchval("SELECT pg_backend_pid()"))


async def _killed_at_work(chaos: Chaos, tx: Tx, _: Scope) -> None:
    pid = await tx.fetchval("SELECT pg_backend_pid()")
    killing = asyncio.create_task(chaos.kill(pid))
    try:
        await tx.execute("SELECT pg_sleep(1)")
    finally:
        await killing


async def _told_to_stop(chaos: Chaos, tx: Tx, _: Scope) -> None:
    pid = await tx.fetchval("SELECT pg_backend_pid()")
    stopping = asyncio.create_task(chaos.kill(pid, function="pg_cancel_backend"))
    try:
        await tx.execute("SELECT pg_sleep(0.02)")
    finally:
        await stopping


async def _failed_commit(chaos: Chaos, tx: Tx, scope: Scope) -> None:
    if isinstance(scope, Network):
        await tx.execute(INSERT, scope.network_id, chaos.ids.uuid(), chaos.ids.uuid())


async def _write(chaos: Chaos, tx: Tx, scope: Scope) -> None:
    if isinstance(scope, Network):
        row = chaos.ids.uuid()
        await tx.execute(INSERT, scope.network_id, row, row)
        await tx.execute("DELETE FROM tenant.chaos WHERE network_id = $1 AND id = $2", scope.network_id, row)


async def _write_abroad(chaos: Chaos, tx: Tx, scope: Scope) -> None:
    """A row for another network is refused, and the savepoint lets the transaction go on."""
    if isinstance(scope, Network):
        other = next(one for one in chaos.networks if one.network_id != scope.network_id)
        try:
            async with tx.savepoint():
                await tx.execute(INSERT, other.network_id, chaos.ids.uuid(), None)
        except asyncpg.InsufficientPrivilegeError:
            return
        chaos.tally.note("foreign_rows", f"{scope} wrote into {other.network_id}")


async def _nested_savepoints(_: Chaos, tx: Tx, __: Scope) -> None:
    """Settings made and undone below; the scope is what it was."""
    with suppress(asyncpg.DivisionByZeroError):
        async with tx.savepoint():
            await tx.execute("SET LOCAL lock_timeout = '5s'")
            async with tx.savepoint():
                await tx.execute("SELECT 1/0")
    async with tx.savepoint():
        await tx.execute("SELECT 1")


async def _transaction_inside(chaos: Chaos, _: Tx, scope: Scope) -> None:
    try:
        async with chaos.database.transaction(scope):
            pass
    except ScopeError:
        return
    chaos.tally.note("leaked_scopes", f"{scope}: a transaction inside a transaction")


async def _two_at_once(_: Chaos, tx: Tx, __: Scope) -> None:
    await asyncio.gather(tx.fetchval("SELECT 1"), tx.fetchval("SELECT 2"), return_exceptions=True)


FATES: dict[str, Callable[[Chaos, Tx, Scope], Awaitable[None]]] = {
    "raise": _raise,
    "divide": _divide,
    "swallow": _swallow,
    "slow statement": _slow_statement,
    "slow task": _slow_task,
    "killed": _killed,
    "killed at work": _killed_at_work,
    "told to stop": _told_to_stop,
    "failed commit": _failed_commit,
    "write": _write,
    "write abroad": _write_abroad,
    "nested savepoints": _nested_savepoints,
    "transaction inside": _transaction_inside,
    "two at once": _two_at_once,
}
VAULT_FATES = ("raise", "divide", "swallow", "slow statement", "slow task", "killed", "killed at work")
NAMES = tuple(FATES)
