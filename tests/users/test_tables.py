"""The tables of sign-in and of the vault: classes and catalog agree, policies hold what scopes promise."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support import ManualClock, SeededIds, as_superuser, make_network
from yggdrasil.db import Database, VaultDatabase
from yggdrasil.db.address import Login
from yggdrasil.db.drift import drift
from yggdrasil.kernel import Identity, Market, Network, Role, Settle, System
from yggdrasil.mimir import tables as vault_tables
from yggdrasil.users import store, store_keys, tables

IDENTITY_TABLES = (
    "login_flows",
    "login_limits",
    "known_devices",
    "sessions",
    "erasures",
    "revocations",
    "hand_over_asks",
)


async def test_the_classes_tell_the_truth(
    database: Database, mimir_pool: VaultDatabase, admin: Login
) -> None:
    main = next(iter(database.pools.values())).address
    rows = (
        tables.LoginFlowRow,
        tables.LoginLimitRow,
        tables.KnownDeviceRow,
        tables.SessionRow,
        tables.ErasureRow,
        tables.RevocationRow,
        tables.ApiKeyRow,
        tables.HandOverAskRow,
        tables.HandOverRow,
    )
    assert await drift(main, admin, rows) == []
    vault_rows = (
        vault_tables.SubjectRow,
        vault_tables.FieldRow,
        vault_tables.AddressRow,
        vault_tables.FlowRow,
    )
    assert await drift(mimir_pool.pool.address, admin, vault_rows) == []


@pytest.mark.parametrize("table", IDENTITY_TABLES)
async def test_no_other_scope_reads_the_tables_of_sign_in(
    database: Database, ids: SeededIds, clock: ManualClock, table: str
) -> None:
    ours = await make_network(database, ids, clock)
    for scope in (ours, Market(), Settle((ours.network_id,))):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(scope) as tx:
                await tx.fetch(f"SELECT * FROM identity.{table}")


async def test_sessions_and_keys_are_seen_by_their_user_only(
    database: Database, ids: SeededIds, clock: ManualClock, admin: Login
) -> None:
    ours = await make_network(database, ids, clock)
    theirs = await make_network(database, ids, clock)
    mate = await make_network(database, ids, clock, role=Role.MEMBER, home=ours.network_id)
    for scope in (ours, theirs, mate):
        async with database.transaction(scope) as tx:
            await store_keys.insert_key(
                tx, scope.network_id, ids.uuid(), scope.user_id, "x", bytes(32), clock.now()
            )
        session = store.Session(
            ids.uuid(),
            scope.user_id,
            scope.network_id,
            bytes(32),
            None,
            1,
            clock.now(),
            clock.now(),
            clock.now(),
            None,
        )
        async with database.transaction(Identity(user_id=scope.user_id)) as tx:
            await store.insert_session(tx, session, 9)

    async def users_seen(scope: Network | Identity | System, table: str) -> set[object]:
        async with database.transaction(scope) as tx:
            return {row["user_id"] for row in await tx.fetch(f"SELECT user_id FROM {table}")}

    everybody = {ours.user_id, theirs.user_id, mate.user_id}
    for table in ("tenant.api_keys", "identity.sessions"):
        rows = await as_superuser(database, admin, f"SELECT user_id FROM {table}")
        assert {row["user_id"] for row in rows} == everybody  # the control
        assert await users_seen(System("test"), table) == everybody
    # Keys belong to the user, also inside the network; a lookup sees the network it claims.
    assert await users_seen(ours, "tenant.api_keys") == {ours.user_id}
    assert await users_seen(Identity(ours.network_id), "tenant.api_keys") == {ours.user_id, mate.user_id}
    assert await users_seen(Identity(), "tenant.api_keys") == set()
    assert await users_seen(Identity(user_id=mate.user_id), "identity.sessions") == {mate.user_id}
    assert await users_seen(Identity(), "identity.sessions") == set()


async def test_a_network_cannot_make_a_key_or_an_end_for_another(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    ours = await make_network(database, ids, clock)
    theirs = await make_network(database, ids, clock)
    for network_id, user_id in ((theirs.network_id, ours.user_id), (ours.network_id, theirs.user_id)):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(ours) as tx:
                await store_keys.insert_key(tx, network_id, ids.uuid(), user_id, "x", bytes(32), clock.now())
    for ended in (
        store.Ended(theirs.user_id, None, ids.uuid(), None),
        store.Ended(ours.user_id, ids.uuid(), None, None),
        store.Ended(ours.user_id, None, None, 5),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(ours) as tx:
                await store.insert_revocation(tx, ids.uuid(), ended, clock.now())


async def test_only_the_retention_job_drops_sessions(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    ours = await make_network(database, ids, clock)
    session = store.Session(
        ids.uuid(),
        ours.user_id,
        ours.network_id,
        bytes(32),
        None,
        1,
        clock.now(),
        clock.now(),
        clock.now(),
        None,
    )
    async with database.transaction(Identity(user_id=ours.user_id)) as tx:
        await store.insert_session(tx, session, 9)
    for job, status in (("another-job", "DELETE 0"), ("session-retention", "DELETE 1")):
        async with database.transaction(System(job)) as tx:
            assert await tx.execute("DELETE FROM identity.sessions") == status


async def test_the_poster_reads_a_keys_limits_and_not_its_digests(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    ours = await make_network(database, ids, clock)
    theirs = await make_network(database, ids, clock)
    for scope in (ours, theirs):
        async with database.transaction(scope) as tx:
            await store_keys.insert_key(
                tx, scope.network_id, ids.uuid(), scope.user_id, "x", bytes(32), clock.now()
            )
    async with database.transaction(Settle((ours.network_id,))) as tx:
        rows = await tx.fetch("SELECT network_id, spend_limit_microcents FROM tenant.api_keys")
        assert [row["network_id"] for row in rows] == [ours.network_id]
    for column in ("secret_digest", "previous_digest", "name", "user_id"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(Settle((ours.network_id,))) as tx:
                await tx.fetch(f"SELECT {column} FROM tenant.api_keys")


async def test_only_the_job_of_uses_writes_them_and_nothing_else(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    keys = {}
    for _ in range(2):
        ours = await make_network(database, ids, clock)
        key_id = ids.uuid()
        async with database.transaction(ours) as tx:
            await store_keys.insert_key(
                tx, ours.network_id, key_id, ours.user_id, "x", bytes(32), clock.now()
            )
        keys[ours.network_id, key_id] = clock.now()
    for job, noted in (("another-job", 0), ("key-use", 2)):
        async with database.transaction(System(job)) as tx:
            assert await store_keys.note_uses(tx, keys) == noted
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(System("key-use")) as tx:
            await tx.execute("UPDATE tenant.api_keys SET revoked_at = NULL")
