# ruff: noqa: PT012  what is expected to fail is a whole transaction
"""Nothing leaks: after failed commits, cancellations and killed backends the pool is as before and the
next user is clean.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from piccolo import columns
from piccolo.table import Table

from tests.support import ManualClock, SeededIds, as_superuser, make_network
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.db.engine import ENGINE
from yggdrasil.errors import ScopeError, Unavailable
from yggdrasil.kernel import CURRENCY, PLATFORM_NETWORK, Identity, Market, Network, System

ROUNDS = 50
IN_TRANSACTION = (
    "SELECT count(*) AS n FROM pg_stat_activity"
    " WHERE datname = current_database() AND state LIKE '%transaction%'"
)


class Untied(Table, schema="tenant", tablename="networks"):
    network_id = columns.UUID(primary_key=True)


class Networks(Table, schema="tenant", tablename="networks", db=ENGINE):
    network_id = columns.UUID(primary_key=True)
    created_at = columns.Timestamptz()
    currency = columns.Varchar()


def pool_of(database: Database) -> Any:
    return database.pools["ygg_identity"]


async def deferred(database: Database, admin: Login) -> None:
    """A table whose foreign key fails at COMMIT only."""
    for sql in (
        "CREATE TABLE identity.parent (id uuid PRIMARY KEY)",
        "CREATE TABLE identity.child (id uuid REFERENCES identity.parent DEFERRABLE INITIALLY DEFERRED)",
        "GRANT SELECT, INSERT ON identity.child TO ygg_identity",
    ):
        await as_superuser(database, admin, sql)


async def test_failed_commits_leak_nothing(database: Database, admin: Login, ids: SeededIds) -> None:
    await deferred(database, admin)
    for _ in range(ROUNDS):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with database.transaction(Identity()) as tx:
                await tx.execute("INSERT INTO identity.child VALUES ($1)", ids.uuid())
        with pytest.raises(ScopeError, match="ended"):
            await tx.fetch("SELECT 1")
    await assert_unharmed(database, admin)
    assert await as_superuser(database, admin, "SELECT * FROM identity.child") == []


@pytest.mark.parametrize("where", ["inside", "acquire", "body"])
async def test_cancellations_leak_nothing(database: Database, admin: Login, where: str) -> None:
    pool = pool_of(database)
    for _ in range(ROUNDS):
        entered = asyncio.Event()

        async def work(entered: asyncio.Event) -> None:
            if where == "acquire":
                entered.set()
            async with database.transaction(Identity()) as tx:
                entered.set()
                if where == "inside":
                    await tx.fetch("SELECT pg_sleep(30)")
                await asyncio.Event().wait()

        task = asyncio.create_task(work(entered))
        await entered.wait()
        if where == "inside":
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.size <= pool.connections_max
    await assert_unharmed(database, admin)


async def test_a_cancelled_commit_leaks_nothing(database: Database, admin: Login) -> None:
    for _ in range(ROUNDS):
        leaving = asyncio.Event()

        async def work(leaving: asyncio.Event) -> None:
            async with database.transaction(Identity()) as tx:
                await tx.fetchval("SELECT 1")
                leaving.set()

        task = asyncio.create_task(work(leaving))
        await leaving.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await assert_unharmed(database, admin)


async def test_killed_backends_are_replaced(database: Database, admin: Login) -> None:
    pool = pool_of(database)
    for _ in range(ROUNDS):
        with pytest.raises(Unavailable):
            async with database.transaction(Identity()) as tx:
                pid = await tx.fetchval("SELECT pg_backend_pid()")
                await as_superuser(database, admin, "SELECT pg_terminate_backend($1)", pid)
                await tx.fetchval("SELECT pg_sleep(20)")
    async with asyncio.TaskGroup() as group:  # fill the pool with idle connections, then kill all of them
        ready = asyncio.Barrier(pool.connections_max)
        for _ in range(pool.connections_max):
            group.create_task(hold(database, ready))
    assert pool.idle == pool.connections_max
    await as_superuser(
        database,
        admin,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'ygg_identity'",
    )
    await assert_unharmed(database, admin)


async def test_connection_lost_at_commit(database: Database, admin: Login) -> None:
    with pytest.raises(Unavailable):
        async with database.transaction(Identity()) as tx:
            pid = await tx.fetchval("SELECT pg_backend_pid()")
            await as_superuser(database, admin, "SELECT pg_terminate_backend($1, 5000)", pid)
    await assert_unharmed(database, admin)


async def hold(database: Database, ready: asyncio.Barrier) -> None:
    async with database.transaction(Identity()) as tx:
        await tx.fetchval("SELECT 1")
        await ready.wait()


async def assert_unharmed(database: Database, admin: Login) -> None:
    """Every connection of the pool is to be had, clean, and PostgreSQL sees no transaction left open."""
    pool = pool_of(database)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        ready = asyncio.Barrier(pool.connections_max)
        for _ in range(pool.connections_max):
            group.create_task(hold(database, ready))
    assert pool.size == pool.idle == pool.connections_max
    assert await as_superuser(database, admin, IN_TRANSACTION) == [{"n": 0}]


async def test_twenty_networks_on_four_connections(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    networks = [await make_network(database, ids, clock) for _ in range(20)]

    async def look(scope: Network, round_: int) -> None:
        try:
            async with database.transaction(scope) as tx:
                assert [row["network_id"] for row in await tx.fetch("SELECT * FROM tenant.networks")] == [
                    scope.network_id
                ]
                if round_ % 3 == 0:
                    raise LookupError
                if round_ % 5 == 0:
                    await tx.execute("SELECT 1/0")
        except (LookupError, asyncpg.DivisionByZeroError):
            pass

    async with asyncio.TaskGroup() as group:
        for round_ in range(10):
            for scope in networks:
                group.create_task(look(scope, round_))
    pool = database.pools["ygg_network"]
    assert pool.size == pool.idle <= 4


async def test_a_full_pool_says_so_and_recovers(database: Database) -> None:
    pool = pool_of(database)
    pool._acquire_seconds_max = 0.05
    held = [await pool.acquire() for _ in range(pool.connections_max)]
    with pytest.raises(Unavailable, match="in use"):
        async with database.transaction(Identity()):
            pass
    pool._acquire_seconds_max = 10
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.release(held[0], clean=True)
    assert await waiting is held[0]
    for connection in held:
        pool.release(connection, clean=True)
    assert pool.idle == pool.connections_max


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_passes_it_on(database: Database) -> None:
    pool = pool_of(database)
    held = [await pool.acquire() for _ in range(pool.connections_max)]
    first, second = asyncio.create_task(pool.acquire()), asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.release(held[0], clean=True)
    first.cancel()
    assert await asyncio.wait_for(second, 5) is held[0]
    with pytest.raises(asyncio.CancelledError):
        await first
    for connection in held:
        pool.release(connection, clean=True)


async def test_a_dirty_connection_never_comes_back(database: Database) -> None:
    pool = pool_of(database)
    connection = await pool.acquire()
    await connection.execute("BEGIN")
    pool.release(connection, clean=True)
    assert connection.is_closed()
    assert (pool.size, pool.idle) == (0, 0)


async def test_a_session_setting_does_not_reach_the_next_user(database: Database) -> None:
    async with database.transaction(Market()) as tx:
        await tx.execute("SET SESSION app.network = '00000000-0000-0000-0000-000000000009'")
        await tx.execute("SET SESSION search_path = 'evil'")
        first = await tx.fetchval("SELECT pg_backend_pid()")
    async with database.transaction(Market()) as tx:
        assert await tx.fetchval("SELECT pg_backend_pid()") == first
        assert await tx.fetchval("SELECT platform.current_network()") is None
        assert await tx.fetchval("SHOW search_path") != "evil"


async def test_no_nesting_and_no_use_after_the_end(database: Database) -> None:
    async with database.transaction(Market()) as tx:
        with pytest.raises(ScopeError, match="inside"):
            async with database.transaction(Market()):
                pass
        assert await tx.fetchval("SELECT 1") == 1  # the outer one is unharmed
    for call in (tx.fetch, tx.fetchrow, tx.fetchval, tx.execute):
        with pytest.raises(ScopeError, match="ended"):
            await call("SELECT 1")
    with pytest.raises(ScopeError, match="ended"):
        await tx.run(Networks.select())
    async with database.transaction(Market()):  # the task itself is clean
        pass


async def test_a_task_started_inside_has_its_own(database: Database) -> None:
    async def other() -> int:
        async with database.transaction(Market()) as tx:
            return await tx.fetchval("SELECT pg_backend_pid()")

    async with database.transaction(Market()) as tx:
        mine = await tx.fetchval("SELECT pg_backend_pid()")
        assert await asyncio.create_task(other()) != mine


async def test_two_statements_at_once_are_refused(database: Database) -> None:
    async with database.transaction(Market()) as tx:
        results = await asyncio.gather(
            tx.fetchval("SELECT 1"), tx.fetchval("SELECT 2"), return_exceptions=True
        )
        assert results[0] == 1
        assert isinstance(results[1], ScopeError)
        assert await tx.fetchval("SELECT 3") == 3


async def test_a_swallowed_error_is_no_commit(database: Database, ids: SeededIds, clock: ManualClock) -> None:
    network_id = ids.uuid()
    with pytest.raises(ScopeError, match="swallowed"):
        async with database.transaction(Identity(network_id)) as tx:
            await insert(tx, network_id, clock)
            with pytest.raises(asyncpg.DivisionByZeroError):
                await tx.execute("SELECT 1/0")
    assert await count_of(database, network_id) == 0


async def test_a_savepoint_undoes_its_part_only(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    network_id = ids.uuid()
    async with database.transaction(Identity(network_id)) as tx:
        await insert(tx, network_id, clock)
        with pytest.raises(asyncpg.UniqueViolationError):
            async with tx.savepoint():
                await insert(tx, network_id, clock)
    assert await count_of(database, network_id) == 1


async def test_piccolo_builds_and_the_scope_runs(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    ours = await make_network(database, ids, clock)
    await make_network(database, ids, clock)
    async with database.transaction(ours) as tx:
        rows = await tx.run(Networks.select(Networks.network_id).where(Networks.currency == CURRENCY))
        assert rows == [{"network_id": ours.network_id}]
    other = ids.uuid()
    async with database.transaction(Identity(other)) as tx:
        row = Networks(network_id=other, created_at=clock.now(), currency=CURRENCY)
        assert await tx.run(Networks.insert(row).returning(Networks.currency)) == [{"currency": CURRENCY}]
    for outside in (Networks.select(), Networks.count(), Networks.insert(row)):
        with pytest.raises(ScopeError):
            await outside
    async with database.transaction(ours) as tx:
        with pytest.raises(Exception, match="where"):
            await tx.run(Networks.delete())
        with pytest.raises(ScopeError, match="Untied is not tied"):
            await tx.run(Untied.select())


async def test_the_statement_timeout_is_unavailable(database: Database) -> None:
    with pytest.raises(Unavailable):
        async with database.transaction(Market()) as tx:
            await tx.execute("SET LOCAL statement_timeout = '1ms'")
            await tx.fetch("SELECT pg_sleep(5)")


async def test_the_clock_moves_inside_a_transaction(database: Database) -> None:
    async with database.transaction(System("lease")) as tx:
        first = await tx.clock()
        assert first.tzinfo is not None
        assert await tx.clock() > first


async def test_a_closed_database_is_unavailable(database: Database) -> None:
    await database.close()
    with pytest.raises(Unavailable):
        async with database.transaction(Market()):
            pass


async def insert(tx: Any, network_id: UUID, clock: ManualClock) -> None:
    await tx.execute("INSERT INTO tenant.networks VALUES ($1, $2, $3)", network_id, clock.now(), CURRENCY)


async def count_of(database: Database, network_id: UUID) -> int:
    async with database.transaction(Network(network_id, PLATFORM_NETWORK)) as tx:
        return await tx.fetchval("SELECT count(*) FROM tenant.networks")
