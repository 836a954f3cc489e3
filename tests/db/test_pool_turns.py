"""A network that asks for all connections gets most of them, and another's answer is the same as alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

import pytest

from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.db import Database
from yggdrasil.db.pool import RolePool
from yggdrasil.errors import Unavailable
from yggdrasil.kernel import Network

SECONDS_MAX = 0.5


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[RolePool]:
    template = database.pools["ygg_network"]
    made = RolePool(template.address, template.login, connections_max=3, acquire_seconds_max=SECONDS_MAX)
    yield made
    await made.close()


async def test_a_network_never_holds_the_last_connection(pool: RolePool) -> None:
    held = [await pool.acquire("a") for _ in range(2)]
    with pytest.raises(Unavailable):
        await pool.acquire("a")
    other = await asyncio.wait_for(pool.acquire("b"), SECONDS_MAX)
    # What b gives back is not a's while it holds as much as it may; what it gives back itself is.
    waiting = asyncio.create_task(pool.acquire("a"))
    await asyncio.sleep(0)
    pool.release(other, clean=True)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert pool.idle == 1
    pool.release(held.pop(), clean=True)
    held.append(await waiting)
    for connection in held:
        pool.release(connection, clean=True)
    assert (pool.size, pool.idle) == (3, 3)


async def test_lines_have_turns(pool: RolePool) -> None:
    held = [await pool.acquire() for _ in range(3)]
    order: list[str] = []

    async def ask(owner: str) -> None:
        connection = await pool.acquire(owner)
        order.append(owner)
        pool.release(connection, clean=True)

    tasks = [asyncio.create_task(ask("a")) for _ in range(50)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(ask(owner)) for owner in ("b", "c", "b")]
    await asyncio.sleep(0)
    pool.release(held.pop(), clean=True)
    await asyncio.gather(*tasks)
    assert order[:5] == ["a", "b", "c", "a", "b"]
    for connection in held:
        pool.release(connection, clean=True)
    assert pool.size == pool.idle == 3


async def test_another_network_is_answered_while_one_keeps_everything_busy(
    database: Database, clock: ManualClock, ids: SeededIds
) -> None:
    template = database.pools["ygg_network"]
    pool = RolePool(template.address, template.login, connections_max=3, acquire_seconds_max=1.0)
    crowded = Database({**database.pools, "ygg_network": pool}, clock=clock, ids=ids)
    a, b = await make_network(database, ids, clock), await make_network(database, ids, clock)

    async def ask(scope: Network, seconds: float) -> str:
        try:
            async with crowded.transaction(scope) as tx:
                await tx.execute("SELECT pg_sleep($1)", seconds)
        except Unavailable:
            return "unavailable"
        return "answered"

    loud = [asyncio.create_task(ask(a, 0.4)) for _ in range(40)]
    await asyncio.sleep(0.05)
    assert [await ask(b, 0.0) for _ in range(10)] == ["answered"] * 10
    # The control: it was too much for a itself.
    assert "unavailable" in await asyncio.gather(*loud)
    await pool.close()


async def test_nothing_is_lost_by_those_who_leave(pool: RolePool, ids: SeededIds) -> None:
    chance = Random(ids.seed)

    async def use(owner: str | None) -> None:
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(chance.random() * 0.02):
                connection = await pool.acquire(owner)
                try:
                    await asyncio.sleep(chance.random() * 0.005)
                finally:
                    pool.release(connection, clean=chance.random() < 0.9)

    for _ in range(20):
        await asyncio.gather(*(use(chance.choice(["a", "b", "c", None])) for _ in range(30)))
    assert (pool._held.total(), pool._lines, pool._busy) == (0, {}, {})
    assert pool.size == pool.idle <= 3
    everything = [await asyncio.wait_for(pool.acquire(), 5) for _ in range(3)]
    for connection in everything:
        pool.release(connection, clean=True)
