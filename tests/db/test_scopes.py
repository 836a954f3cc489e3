# ruff: noqa: PT012  what is expected to fail is a whole transaction
"""Who sees what: the scopes against real policies. Each claim has a control that shows the row is there."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.support import ManualClock, SeededIds, as_superuser, make_network
from yggdrasil.db import Database, VaultDatabase
from yggdrasil.db.address import Login, connect
from yggdrasil.db.store import AUDIT_RETENTION, prune_audit
from yggdrasil.db.transaction import ROLE_OF_SCOPE, begin_sql
from yggdrasil.errors import ScopeError, Unavailable
from yggdrasil.kernel import PLATFORM_NETWORK, Identity, Market, Network, Role, Settle, System

NETWORKS = "SELECT network_id FROM tenant.networks"
JOIN = "INSERT INTO identity.memberships (network_id, user_id, role, created_at) VALUES ($1, $2, 'owner', $3)"


async def seen(database: Database, scope: Network | Identity | Market | Settle | System) -> set[UUID]:
    async with database.transaction(scope) as tx:
        return {row["network_id"] for row in await tx.fetch(NETWORKS)}


async def test_a_network_sees_itself_and_nothing_else(
    database: Database, ids: SeededIds, clock: ManualClock, admin: Login
) -> None:
    ours = await make_network(database, ids, clock)
    theirs = await make_network(database, ids, clock)
    assert await seen(database, ours) == {ours.network_id}
    async with database.transaction(ours) as tx:
        assert {row["network_id"] for row in await tx.fetch("SELECT * FROM identity.memberships")} == {
            ours.network_id
        }
        assert {row["user_id"] for row in await tx.fetch("SELECT * FROM identity.accounts")} == {ours.user_id}
    everything = await as_superuser(database, admin, NETWORKS)
    assert {row["network_id"] for row in everything} == {ours.network_id, theirs.network_id, PLATFORM_NETWORK}


async def test_identity_writes_only_what_it_claims(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    ours = await make_network(database, ids, clock)
    theirs = await make_network(database, ids, clock)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(Identity(ours.network_id, ours.user_id)) as tx:
            await tx.execute(JOIN, theirs.network_id, ours.user_id, clock.now())
    async with database.transaction(Identity(ours.network_id, ours.user_id)) as tx:
        assert (
            await tx.execute("DELETE FROM identity.memberships WHERE user_id = $1", theirs.user_id)
            == "DELETE 0"
        )
    assert await seen(database, theirs) == {theirs.network_id}


async def test_a_login_knows_the_user_before_the_network(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    ours = await make_network(database, ids, clock)
    async with database.transaction(Identity(user_id=ours.user_id)) as tx:
        assert await tx.fetchval("SELECT home_network_id FROM identity.accounts") == ours.network_id
        assert await tx.fetchval("SELECT network_id FROM identity.memberships") == ours.network_id
        assert await tx.fetch(NETWORKS) == []
    assert await seen(database, Identity()) == set()


async def test_settle_sees_any_of_its_three(database: Database, ids: SeededIds, clock: ManualClock) -> None:
    made = [(await make_network(database, ids, clock)).network_id for _ in range(4)]
    assert await seen(database, Settle((made[0], made[2], PLATFORM_NETWORK))) == {
        made[0],
        made[2],
        PLATFORM_NETWORK,
    }
    assert await seen(database, Settle((made[3],))) == {made[3]}
    assert await seen(database, Settle((ids.uuid(),))) == set()


async def test_market_may_not_even_ask_for_networks(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await seen(database, Market())
    async with database.transaction(Market()) as tx:
        assert await tx.fetchval("SELECT current_user") == "ygg_market"


async def test_a_job_sees_both_of_two_networks(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    made = {(await make_network(database, ids, clock)).network_id for _ in range(2)}
    assert made < await seen(database, System("census"))
    async with database.transaction(System("census")) as tx:
        assert await tx.fetchval("SELECT count(*) FROM identity.accounts") == 2
        assert await tx.fetchval("SELECT count(*) FROM identity.memberships") == 2
        assert await tx.fetchval("SELECT count(*) FROM platform.migrations") >= 1


async def test_without_settings_there_are_no_rows(
    database: Database, ids: SeededIds, clock: ManualClock, admin: Login
) -> None:
    """A connection that got round `transaction` sees nothing, also after an earlier scope ended on it."""
    ours = await make_network(database, ids, clock)
    pool = database.pools["ygg_network"]
    assert await seen(database, ours) == {ours.network_id}
    used, fresh = await pool.acquire(), await connect(pool.address, pool.login)
    for connection in (used, fresh):
        assert await connection.fetch(NETWORKS) == []
        assert await connection.fetch("SELECT * FROM identity.accounts") == []
    pool.release(used, clean=True)
    await fresh.close()


async def test_every_use_of_system_is_audited_even_if_it_rolls_back(
    database: Database, clock: ManualClock, admin: Login
) -> None:
    async with database.transaction(System("census")):
        pass
    with pytest.raises(LookupError):
        async with database.transaction(System("census")) as tx:
            await tx.fetch(NETWORKS)
            raise LookupError
    rows = await as_superuser(database, admin, "SELECT job, at FROM jobs.audit")
    assert [(row["job"], row["at"]) for row in rows] == [("census", clock.now())] * 2


async def test_only_the_retention_job_removes_audit_rows(database: Database, clock: ManualClock) -> None:
    async with database.transaction(System("census")) as tx:
        assert await prune_audit(tx, clock.now() + timedelta(days=1)) == 0
    before = clock.now()
    clock.advance(60)
    async with database.transaction(System(AUDIT_RETENTION)) as tx:
        assert await prune_audit(tx, before) == 0
        assert await prune_audit(tx, before + timedelta(seconds=1)) == 1
        assert await prune_audit(tx, clock.now() + timedelta(seconds=1), rows_max=1) == 1


async def test_no_role_can_become_another(database: Database) -> None:
    for role, pool in database.pools.items():
        connection = await pool.acquire()
        try:
            strength = await connection.fetchrow(
                "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
                " WHERE rolname = current_user"
            )
            assert strength is not None
            assert not any(strength.values()), role
            for other in (*ROLE_OF_SCOPE.values(), "ygg_owner", "postgres", "ygg_mimir"):
                if other != role:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(f"SET ROLE {other}")
            for sql in ("CREATE TABLE tenant.x ()", "CREATE TEMP TABLE x ()", "CREATE SCHEMA x"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(sql)
        finally:
            pool.release(connection, clean=True)


@pytest.mark.parametrize(
    "scope",
    [
        Network("x'; DROP TABLE tenant.networks; --", PLATFORM_NETWORK),  # type: ignore[arg-type]
        Network(PLATFORM_NETWORK, None),  # type: ignore[arg-type]
        Network(PLATFORM_NETWORK, PLATFORM_NETWORK, role="owner'"),  # type: ignore[arg-type]
        Identity(network_id="''"),  # type: ignore[arg-type]
        Settle(("a", "b")),  # type: ignore[arg-type]
        System("a'; COMMIT; --"),
        System("Upper"),
        System(""),
        System("x" * 65),
        "network",
        None,
    ],
)
async def test_a_scope_that_is_none_is_refused(database: Database, scope: object) -> None:
    with pytest.raises(ScopeError):
        database.transaction(scope)  # type: ignore[arg-type]


def test_every_setting_is_always_set() -> None:
    for scope in (Network(PLATFORM_NETWORK, PLATFORM_NETWORK, Role.GUEST), Identity(), Market(), System("x")):
        sql = begin_sql(scope)
        for name in ("network", "user", "role", "networks", "job"):
            assert sql.count(f'SET LOCAL app."{name}" = ') == 1


async def test_mimir_and_main_do_not_let_each_other_in(database: Database, mimir_pool: VaultDatabase) -> None:
    async with mimir_pool.transaction() as tx:
        assert await tx.fetchval("SELECT current_user") == "ygg_mimir"
    main = database.pools["ygg_network"]
    with pytest.raises((asyncpg.InsufficientPrivilegeError, Unavailable)):
        await connect(mimir_pool.pool.address, main.login)
    with pytest.raises((asyncpg.InsufficientPrivilegeError, Unavailable)):
        await connect(main.address, mimir_pool.pool.login)
