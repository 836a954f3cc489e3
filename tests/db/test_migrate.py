"""Migrations: once, in order, one runner at a time, history not edited."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.conftest import Cluster, make_directory
from tests.support import ManualClock
from yggdrasil.db.address import Address, Login, connect
from yggdrasil.db.bootstrap import open_database, prepare
from yggdrasil.db.embedded import EmbeddedPostgres
from yggdrasil.db.linter import MAIN_HOUSE, lint
from yggdrasil.db.migrate import MAIN, MAIN_OWNER, Migration, migrate, prepare_roles, read_migrations
from yggdrasil.devices.model import group_of
from yggdrasil.errors import ConfigurationError, Unavailable
from yggdrasil.kernel import Market, SystemIds
from yggdrasil.keys import Keys

SYSTEM_15 = Path("/usr/lib/postgresql/15/bin")
NOTE = "CREATE SCHEMA IF NOT EXISTS jobs; CREATE TABLE jobs.note_{n} (id uuid PRIMARY KEY);"

SELLING_DEVICE = """
    WITH device AS (
        INSERT INTO tenant.devices
            (network_id, id, device_id, user_id, name, world, capabilities, hardware, device_key,
             registered_at)
        VALUES ($1, $2, $3, $1, $3, 'alfheim', '{}', '{}', $4, $5)
    )
    INSERT INTO tenant.providers
        (network_id, id, user_id, device, audience, status, capacity_jobs, world, memory_gib, created_at,
         updated_at, zone)
    VALUES ($1, $2, $1, $2, 'market', 'active', 1, 'alfheim', 1, $5, $5, 'UTC')
"""
OFFER = """
    INSERT INTO tenant.offers
        (network_id, id, provider, user_id, device, audience, status, model, kind, price_cents,
         price_unit_tokens, rounding, context_tokens_max, capacity_jobs, world, memory_gib,
         measured_latency_ms, measured_tokens_per_second, created_at, zone)
    VALUES ($1, $2, $3, $1, $3, 'market', 'active', $4, 'chat', 1, 1000, 'per_request', 4096, 1, 'alfheim', 1,
            1, 1, $5, 'UTC')
"""


def migration(number: int, sql: str) -> Migration:
    return Migration(number, f"{number:04d}_test", sql, hashlib.sha256(sql.encode()).hexdigest())


@pytest.fixture
async def empty(cluster: Cluster) -> AsyncIterator[Address]:
    """An empty database that has the roles."""
    name = f"empty_{next(cluster.numbers)}"
    await cluster.execute(f'CREATE DATABASE "{name}"')
    address = cluster.server.address(name)
    await prepare_roles(address, cluster.admin, MAIN, cluster.keys.role_password)
    yield address
    await cluster.drop(name)


@pytest.fixture
def directory() -> Iterator[Path]:
    made = make_directory()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def owner(keys: Keys) -> Login:
    return Login(MAIN_OWNER, keys.role_password(MAIN_OWNER))


async def test_two_racers_apply_each_file_once(
    empty: Address, owner: Login, clock: ManualClock, admin: Login
) -> None:
    files = [migration(n, NOTE.format(n=n) + "SELECT pg_sleep(0.05);") for n in range(1, 6)]
    results = await asyncio.gather(*(migrate(empty, owner, MAIN, clock, files) for _ in range(4)))
    applied = [name for result in results for name in result]
    assert sorted(applied) == [each.name for each in files]
    connection = await connect(empty, owner)
    try:
        rows = await connection.fetch("SELECT number, applied_at FROM platform.migrations ORDER BY number")
        assert [tuple(row) for row in rows] == [(n, clock.now()) for n in range(1, 6)]
    finally:
        await connection.close()
    connection = await connect(empty, admin)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    finally:
        await connection.close()


async def test_a_failing_file_changes_nothing_and_is_named(
    empty: Address, owner: Login, clock: ManualClock
) -> None:
    bad = migration(2, NOTE.format(n=2) + "\n\nSELECT no_such_column;")
    with pytest.raises(ConfigurationError, match=r"0002_test.*no_such_column.*line 3"):
        await migrate(empty, owner, MAIN, clock, [migration(1, NOTE.format(n=1)), bad])
    good = migration(2, NOTE.format(n=2))
    assert await migrate(empty, owner, MAIN, clock, [migration(1, NOTE.format(n=1)), good]) == ["0002_test"]


async def test_offers_of_before_get_the_group_of_their_devices_key(
    empty: Address, owner: Login, cluster: Cluster, clock: ManualClock
) -> None:
    """Migration 13 on a database that sells: of several networks, a key in two of them, two models of a
    device."""
    files = read_migrations(MAIN.directory)
    before = [each for each in files if each.number < 13]
    assert await migrate(empty, owner, MAIN, clock, before) == [each.name for each in before]
    networks, keys = [UUID(int=100), UUID(int=200)], [bytes([7]) * 32, bytes([8]) * 32]
    sold = [(n, k, m) for n in networks for k in keys for m in ("small", "large")]
    connection = await connect(empty, cluster.admin)
    try:
        for network in networks:
            await connection.execute(
                "INSERT INTO tenant.networks (network_id, created_at, currency) VALUES ($1, $2, 'EUR')",
                network,
                clock.now(),
            )
            for number, key in enumerate(keys):
                await connection.execute(
                    SELLING_DEVICE, network, UUID(int=number), f"pc{number}", key, clock.now()
                )
        for number, (network, key, model) in enumerate(sold):
            device = UUID(int=keys.index(key))
            await connection.execute(OFFER, network, UUID(int=number), device, model, clock.now())
        await migrate(empty, owner, MAIN, clock, files)
        rows = await connection.fetch("SELECT network_id, id, device_group FROM tenant.offers ORDER BY id")
        assert [tuple(row) for row in rows] == [
            (network, UUID(int=number), group_of(network, key))
            for number, (network, key, _) in enumerate(sold)
        ]
        assert len({row["device_group"] for row in rows}) == 4
        forced = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relforcerowsecurity AND relrowsecurity"
            " AND oid IN ('tenant.offers'::regclass, 'tenant.devices'::regclass)"
        )
        assert len(forced) == 2, "what was lifted for the migration stands again"
    finally:
        await connection.close()
    assert [str(found) for found in await lint(empty, cluster.admin, MAIN_HOUSE)] == []


async def test_history_is_not_edited(empty: Address, owner: Login, clock: ManualClock) -> None:
    first, third = migration(1, NOTE.format(n=1)), migration(3, NOTE.format(n=3))
    await migrate(empty, owner, MAIN, clock, [first, third])
    assert await migrate(empty, owner, MAIN, clock, [first, third]) == []
    with pytest.raises(ConfigurationError, match="0001_test: the file changed"):
        await migrate(empty, owner, MAIN, clock, [migration(1, "SELECT 1"), third])
    with pytest.raises(
        ConfigurationError, match="0003_test: applied to this database, but the file is missing"
    ):
        await migrate(empty, owner, MAIN, clock, [first])
    with pytest.raises(ConfigurationError, match="0002_test: sorts before 0003"):
        await migrate(empty, owner, MAIN, clock, [first, migration(2, "SELECT 1"), third])


async def test_a_new_key_is_a_new_password(empty: Address, cluster: Cluster, clock: ManualClock) -> None:
    """Rotating the database-role key: the next start sets the passwords anew."""
    other = Keys.generate(SystemIds().secret)
    await prepare_roles(empty, cluster.admin, MAIN, other.role_password)
    try:
        new, old = (open_database(empty, keys, clock, SystemIds()) for keys in (other, cluster.keys))
        async with new.transaction(Market()) as tx:
            assert await tx.fetchval("SELECT current_user") == "ygg_market"
        await new.close()
        with pytest.raises(Unavailable, match="refused"):
            async with old.transaction(Market()):
                pass
    finally:
        await prepare_roles(empty, cluster.admin, MAIN, cluster.keys.role_password)


async def test_a_role_that_is_too_strong_is_refused(empty: Address, cluster: Cluster) -> None:
    await cluster.execute("ALTER ROLE ygg_market BYPASSRLS")
    try:
        with pytest.raises(ConfigurationError, match="ygg_market"):
            await prepare_roles(empty, cluster.admin, MAIN, cluster.keys.role_password)
    finally:
        await cluster.execute("ALTER ROLE ygg_market NOBYPASSRLS")


def test_file_names(tmp_path: Path) -> None:
    (tmp_path / "0002_b.sql").write_text("SELECT 2")
    (tmp_path / "0001_a.sql").write_text("SELECT 1")
    assert [each.name for each in read_migrations(tmp_path)] == ["0001_a", "0002_b"]
    (tmp_path / "0001_c.sql").write_text("SELECT 1")
    with pytest.raises(ConfigurationError, match="taken"):
        read_migrations(tmp_path)
    (tmp_path / "0001_c.sql").rename(tmp_path / "c.sql")
    with pytest.raises(ConfigurationError, match="NNNN_name"):
        read_migrations(tmp_path)


@pytest.mark.skipif(not SYSTEM_15.exists(), reason="no PostgreSQL 15 on this machine")
async def test_the_oldest_major_we_support(directory: Path, keys: Keys, clock: ManualClock) -> None:
    """All migrations, the linter and a transaction on PostgreSQL 15, by an administrator who is no
    superuser.
    """
    server = EmbeddedPostgres(directory, password="pw", pg_bin=SYSTEM_15, durable=False)
    try:
        await server.start_async()
        connection = await connect(server.address(), server.superuser)
        try:
            await connection.execute("CREATE ROLE operator LOGIN CREATEROLE PASSWORD 'pw'")
            await connection.execute("CREATE DATABASE main OWNER operator")
        finally:
            await connection.close()
        address = server.address("main")
        assert await prepare(address, Login("operator", "pw"), MAIN, keys, clock)
        assert await prepare(address, Login("operator", "pw"), MAIN, keys, clock) == []
        # Only a superuser can close PostgreSQL's statistics.
        findings = await lint(address, server.superuser, MAIN_HOUSE)
        assert {found.rule for found in findings} == {"statistics"}, findings
        database = open_database(address, keys, clock, SystemIds())
        try:
            async with database.transaction(Market()) as tx:
                assert (await tx.fetchval("SHOW server_version")).startswith("15.")
        finally:
            await database.close()
    finally:
        server.stop()


async def test_the_newest_major_by_an_administrator_who_is_no_superuser(
    directory: Path, keys: Keys, clock: ManualClock
) -> None:
    server = EmbeddedPostgres(directory, password="pw", durable=False)
    try:
        await server.start_async()
        connection = await connect(server.address(), server.superuser)
        try:
            await connection.execute("CREATE ROLE operator LOGIN CREATEROLE PASSWORD 'pw'")
            await connection.execute("CREATE DATABASE main OWNER operator")
        finally:
            await connection.close()
        address = server.address("main")
        assert await prepare(address, Login("operator", "pw"), MAIN, keys, clock)
        assert await prepare(address, Login("operator", "pw"), MAIN, keys, clock) == []
        # Only a superuser can close PostgreSQL's statistics.
        findings = await lint(address, server.superuser, MAIN_HOUSE)
        assert {found.rule for found in findings} == {"statistics"}, findings
    finally:
        server.stop()
