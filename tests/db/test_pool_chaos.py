"""200 networks on four connections, and everything goes wrong: nothing leaks. The controls plant one mistake
each, and the same judge must see it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.conftest import Cluster
from tests.db.accidents import NAMES
from tests.db.pool_chaos import Chaos, Tally, WatchedPool, chaos_on
from tests.support import SeededIds
from yggdrasil.db import transaction
from yggdrasil.db.address import Login, connect
from yggdrasil.db.migrate import MAIN_OWNER

QUERIES = int(os.environ.get("YGG_POOL_QUERIES", "10000"))
ROUNDS_OF_A_CONTROL = 5


async def test_nothing_leaks(cluster: Cluster, ids: SeededIds) -> None:
    tally = Tally()
    async with chaos_on(cluster, ids, tally) as chaos:
        while tally.pool_queries < QUERIES:
            await chaos.round(tally.rounds, ids.seed)
            assert tally.clean, tally.found
    print({name: getattr(tally, name) for name in ("pool_queries", "rounds", "fates", "errors")})
    # Everything happened, and most of it to people who then went on.
    assert set(tally.fates) == {*NAMES, "plain", "call"}
    assert tally.finished > tally.transactions // 3
    assert {"Unavailable", "CancelledError", "ForeignKeyViolationError"} <= set(tally.errors)


async def leak(cluster: Cluster, ids: SeededIds, plant: Callable[[Chaos], Any] | None = None) -> Tally:
    tally = Tally()
    async with chaos_on(cluster, ids, tally, networks=30) as chaos:
        if plant is not None:
            await plant(chaos)
        while tally.rounds < ROUNDS_OF_A_CONTROL and tally.clean:
            await chaos.round(tally.rounds, ids.seed)
    return tally


async def test_the_control_without_a_mistake_is_clean(cluster: Cluster, ids: SeededIds) -> None:
    tally = await leak(cluster, ids)
    assert tally.clean, tally.found


async def test_the_judge_sees_set_instead_of_set_local(
    cluster: Cluster, ids: SeededIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = transaction.begin_sql
    monkeypatch.setattr(transaction, "begin_sql", lambda scope: right(scope).replace("SET LOCAL", "SET"))
    assert (await leak(cluster, ids)).leaked_scopes


async def test_the_judge_sees_a_forgotten_reset(
    cluster: Cluster, ids: SeededIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the scope has is set, and the session is not reset: an Identity without a network reads with
    that of whoever was there before."""
    right = transaction.begin_sql

    def wrong(scope: Any) -> str:
        begin = right(scope).removeprefix("RESET ALL; ").replace("SET LOCAL", "SET")
        return "; ".join(part for part in begin.split("; ") if not part.endswith("= ''"))

    monkeypatch.setattr(transaction, "begin_sql", wrong)
    tally = await leak(cluster, ids)
    assert tally.leaked_scopes


async def test_the_judge_sees_a_scope_of_somebody_else(
    cluster: Cluster, ids: SeededIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BEGIN of the last one who asked: what happens when a text is built once and kept."""
    right, kept = transaction.begin_sql, {}

    def wrong(scope: Any) -> str:
        return kept.setdefault(type(scope), right(scope))

    async def nothing(_: Chaos) -> None:
        monkeypatch.setattr(transaction, "begin_sql", wrong)

    assert (await leak(cluster, ids, nothing)).foreign_rows


async def test_the_judge_sees_a_policy_that_lets_everybody_in(cluster: Cluster, ids: SeededIds) -> None:
    async def plant(chaos: Chaos) -> None:
        login = Login(MAIN_OWNER, cluster.keys.role_password(MAIN_OWNER))
        owner = await connect(chaos.database.pools["ygg_network"].address, login)
        await owner.execute("CREATE POLICY open ON tenant.chaos FOR SELECT TO ygg_network USING (true)")
        await owner.close()

    assert (await leak(cluster, ids, plant)).foreign_rows


async def test_the_judge_sees_a_connection_that_nobody_gives_back(
    cluster: Cluster, ids: SeededIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each pool, the first that came back unclean."""
    right, lost = WatchedPool.release, set()

    def wrong(self: WatchedPool, connection: asyncpg.Connection, *, clean: bool) -> None:
        if clean or self in lost:
            right(self, connection, clean=clean)
        else:
            lost.add(self)

    monkeypatch.setattr(WatchedPool, "release", wrong)
    assert (await leak(cluster, ids)).leaked_connections


async def test_the_judge_sees_a_connection_that_is_dropped_but_not_cut(
    cluster: Cluster, ids: SeededIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[asyncpg.Connection] = []

    def wrong(self: WatchedPool, connection: asyncpg.Connection, *, clean: bool) -> None:
        if connection not in self._busy:
            return
        owner = self._busy.pop(connection)
        if clean and not connection.is_closed() and not connection.is_in_transaction():
            self._idle.append(connection)
        else:
            dropped.append(connection)
            self._slots -= 1
        self._gives_back(owner)

    monkeypatch.setattr(WatchedPool, "release", wrong)
    tally = await leak(cluster, ids)
    for connection in dropped:
        connection.terminate()
    assert tally.leaked_connections
