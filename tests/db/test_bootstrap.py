# ruff: noqa: PT012  a whole transaction fails; a process is watched
"""From settings to a working pair of databases: embedded, again, after a crash, and by URL."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster, make_directory
from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.config import Settings
from yggdrasil.db.address import parse_url
from yggdrasil.db.bootstrap import attach, bootstrap
from yggdrasil.errors import ConfigurationError, Unavailable
from yggdrasil.keys import Keys, load_keys


@pytest.fixture
def settings() -> Iterator[Settings]:
    directory = make_directory()
    yield Settings(data_dir=directory / "data")
    shutil.rmtree(directory, ignore_errors=True)


async def test_embedded_twice_keeps_the_rows(settings: Settings, clock: ManualClock, ids: SeededIds) -> None:
    keys = load_keys(settings)
    first = await bootstrap(settings, keys, clock, ids)
    try:
        ours = await make_network(first.main, ids, clock)
        async with first.mimir.transaction() as tx:
            assert await tx.fetchval("SELECT current_user") == "ygg_mimir"
        assert await first.ensure_running() is False
    finally:
        await first.close()
    second = await bootstrap(settings, keys, clock, ids)
    try:
        async with second.main.transaction(ours) as tx:
            assert await tx.fetchval("SELECT network_id FROM tenant.networks") == ours.network_id
    finally:
        await second.close()


async def test_after_kill_9_the_same_pools_work_again(
    settings: Settings, clock: ManualClock, ids: SeededIds
) -> None:
    databases = await bootstrap(settings, load_keys(settings), clock, ids)
    try:
        ours = await make_network(databases.main, ids, clock)
        async with databases.main.transaction(ours) as tx:
            await tx.fetchval("SELECT 1")
        assert databases.embedded is not None
        assert databases.embedded.pid is not None
        os.kill(databases.embedded.pid, signal.SIGKILL)
        with pytest.raises(Unavailable):
            while True:
                async with databases.main.transaction(ours) as tx:
                    await tx.fetchval("SELECT 1")
        async with asyncio.timeout(30):
            while not await databases.ensure_running():
                await asyncio.sleep(0.01)
        async with databases.main.transaction(ours) as tx:
            assert await tx.fetchval("SELECT network_id FROM tenant.networks") == ours.network_id
    finally:
        await databases.close()


async def test_a_command_attaches_beside_the_server_or_without(
    settings: Settings, clock: ManualClock, ids: SeededIds
) -> None:
    keys = load_keys(settings)
    async with attach(
        settings, keys, clock, ids
    ) as database:  # nobody runs: started for the while, and stopped
        ours = await make_network(database, ids, clock)
    server = await bootstrap(settings, keys, clock, ids)
    try:
        async with attach(settings, keys, clock, ids) as database, database.transaction(ours) as tx:
            assert await tx.fetchval("SELECT network_id FROM tenant.networks") == ours.network_id
        async with server.main.transaction(ours) as tx:  # leaving did not stop the server
            assert await tx.fetchval("SELECT 1") == 1
    finally:
        await server.close()


async def test_by_url(cluster: Cluster, keys: Keys, clock: ManualClock, ids: SeededIds) -> None:
    names = [f"url_{next(cluster.numbers)}" for _ in range(2)]
    for name in names:
        await cluster.execute(f'CREATE DATABASE "{name}"')
    login, host = cluster.admin, cluster.server.address().host
    urls = [f"postgresql://{login.user}:{login.password}@/{name}?host={host}" for name in names]
    try:
        databases = await bootstrap(
            Settings(database_url=urls[0], mimir_database_url=urls[1]), keys, clock, ids
        )
        try:
            assert databases.embedded is None
            ours = await make_network(databases.main, ids, clock)
            by_url = Settings(database_url=urls[0], mimir_database_url=urls[1])
            async with attach(by_url, keys, clock, ids) as database, database.transaction(ours) as tx:
                assert await tx.fetchval("SELECT network_id FROM tenant.networks") == ours.network_id
        finally:
            await databases.close()
    finally:
        for name in names:
            await cluster.drop(name)


async def test_a_server_that_is_not_there(
    tmp_path: Path, keys: Keys, clock: ManualClock, ids: SeededIds
) -> None:
    url = f"postgresql://u:p@/main?host={tmp_path}"
    with pytest.raises(Unavailable):
        await bootstrap(Settings(database_url=url, mimir_database_url=f"{url}2"), keys, clock, ids)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("mysql://u:hunter2@h/d", "postgresql://"),
        ("postgresql://u:hunter2@h/", "a database"),
        ("postgresql://u:hunter2@/d", "a host"),
        ("postgresql://:hunter2@h/d", "a user"),
        ("postgresql://u:hunter2@h:99999/d", "port"),
        ("postgresql://u:hunter2@h/d?sslmode=maybe", "sslmode"),
        ("postgresql://u:hunter2@h/d?options=x", "options"),
        ("postgresql://u:hunter2@/d?host=/" + "x" * 120, "socket path"),
    ],
)
def test_a_bad_url_names_setting_and_rule_but_not_itself(url: str, rule: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(url, field="database_url")
    assert caught.value.field == "database_url"
    assert rule in caught.value.detail
    assert "hunter2" not in caught.value.detail


def test_a_good_url() -> None:
    address, login = parse_url(
        "postgresql://u%40x:p%2Fw@db.example:6432/main?sslmode=verify-full", field="database_url"
    )
    assert (address.host, address.port, address.database, address.ssl) == (
        "db.example",
        6432,
        "main",
        "verify-full",
    )
    assert (login.user, login.password) == ("u@x", "p/w")
    assert "p/w" not in repr(login)
