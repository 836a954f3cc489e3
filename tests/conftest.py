"""One PostgreSQL of our own for the session, migrated once; every test gets a clone of that database."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import ManualClock, SeededIds
from yggdrasil.db import Database, VaultDatabase
from yggdrasil.db.address import Login, connect
from yggdrasil.db.bootstrap import create_databases, open_database, prepare
from yggdrasil.db.embedded import EmbeddedPostgres
from yggdrasil.db.migrate import MAIN, MIMIR
from yggdrasil.db.vault import MIMIR_ROLE, open_pool
from yggdrasil.keys import Keys

settings.register_profile(
    "yggdrasil", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("yggdrasil")

SEED = int(os.environ.get("YGGDRASIL_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
os.environ.pop("YGGDRASIL_TEST_SEED", None)  # no setting of the server
MAIN_TEMPLATE, MIMIR_TEMPLATE = "main_template", "mimir_template"
CONNECTIONS_MAX = 4


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Every process of a run draws from the same seed, or they would collect different tests."""
    os.environ["YGGDRASIL_TEST_SEED"] = str(SEED)


def pytest_report_header() -> str:
    return f"seed: {SEED} (repeat with YGGDRASIL_TEST_SEED={SEED})"


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if call.excinfo is not None and not isinstance(call.excinfo.value, pytest.skip.Exception):
        item.add_report_section(call.when, "seed", f"YGGDRASIL_TEST_SEED={SEED}")


@dataclass(frozen=True)
class Cluster:
    """The session's server. `keys` made the roles' passwords."""

    server: EmbeddedPostgres
    keys: Keys
    numbers: Iterator[int]

    @property
    def admin(self) -> Login:
        return self.server.superuser

    async def execute(self, sql: str) -> None:
        connection = await connect(self.server.address(), self.admin)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def clone(self, template: str) -> str:
        """A copy of a template database; its name."""
        name = f"{template.removesuffix('_template')}_{next(self.numbers)}"
        await self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        # A copy has everything but the grants on the database itself.
        plan = MAIN if template == MAIN_TEMPLATE else MIMIR
        await self.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
        await self.execute(f'GRANT CONNECT ON DATABASE "{name}" TO {", ".join((plan.owner, *plan.roles))}')
        return name

    async def drop(self, name: str) -> None:
        await self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def make_directory() -> Path:
    """A temporary directory that PostgreSQL's user can pass through (pytest's own are 0700), outside
    of every project.
    """
    directory = Path(tempfile.mkdtemp(prefix="yggdrasil-test-"))
    directory.chmod(0o711)
    return directory


@pytest.fixture(scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    async with open_cluster(SEED) as made:
        yield made


@asynccontextmanager
async def open_cluster(seed: int) -> AsyncIterator[Cluster]:
    """A server of its own, for a session of tests or a campaign."""
    directory = make_directory()
    keys = Keys.generate(SeededIds(seed).secret)
    # Not durable: it lives for one session. Crash tests start their own.
    server = EmbeddedPostgres(directory, password=keys.role_password("postgres"), durable=False)
    await server.start_async()
    try:
        made = Cluster(server, keys, count(1))
        await create_databases(server, MAIN_TEMPLATE, MIMIR_TEMPLATE)
        clock = ManualClock()
        await prepare(server.address(MAIN_TEMPLATE), made.admin, MAIN, keys, clock)
        await prepare(server.address(MIMIR_TEMPLATE), made.admin, MIMIR, keys, clock)
        yield made
    finally:
        await server.stop_async()
        shutil.rmtree(
            server.home, ignore_errors=True
        )  # elsewhere, when the temporary directory is closed to others
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def database(cluster: Cluster, clock: ManualClock, ids: SeededIds) -> AsyncIterator[Database]:
    """A migrated main database of this test alone."""
    name = await cluster.clone(MAIN_TEMPLATE)
    made = open_database(
        cluster.server.address(name),
        cluster.keys,
        clock,
        SeededIds(ids.seed + 1),
        connections_max=CONNECTIONS_MAX,
    )
    try:
        yield made
    finally:
        await made.close()
        await cluster.drop(name)


@pytest.fixture
async def mimir_pool(cluster: Cluster) -> AsyncIterator[VaultDatabase]:
    """A migrated Mimir database of this test alone."""
    name = await cluster.clone(MIMIR_TEMPLATE)
    made = open_pool(
        cluster.server.address(name),
        MIMIR_ROLE,
        cluster.keys.role_password(MIMIR_ROLE),
        connections_max=CONNECTIONS_MAX,
    )
    try:
        yield made
    finally:
        await made.close()
        await cluster.drop(name)


@pytest.fixture
def admin(cluster: Cluster) -> Login:
    """The superuser's login, for `support.as_superuser`."""
    return cluster.admin


@pytest.fixture
def keys(cluster: Cluster) -> Keys:
    return cluster.keys


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ids(request: pytest.FixtureRequest) -> SeededIds:
    """Deterministic for the session's seed and the test's name."""
    made = SeededIds(random.Random(f"{SEED}{request.node.nodeid}").randrange(2**63))
    print(f"ids seed {made.seed}", file=sys.stderr)
    return made
