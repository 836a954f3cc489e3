"""From settings to connected pools: start the embedded server or use the URLs, make roles, migrate, open."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from yggdrasil.config import Settings
from yggdrasil.db.address import PORT_DEFAULT, Address, Login, connect, parse_url
from yggdrasil.db.embedded import EmbeddedPostgres, running_socket
from yggdrasil.db.migrate import MAIN, MAIN_ROLES, MIMIR, Plan, migrate, prepare_roles
from yggdrasil.db.pool import RolePool
from yggdrasil.db.transaction import Database
from yggdrasil.db.vault import MIMIR_ROLE, VaultDatabase, open_pool
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.keys import Keys

MAIN_DATABASE = "yggdrasil"
MIMIR_DATABASE = "mimir"
COMMAND_CONNECTIONS_MAX = 2
CONNECTIONS_SPARE = 20
"""For migrations, tools and PostgreSQL's own reserve, above what the pools may open."""


@dataclass(slots=True)
class Databases:
    """Both databases, and the embedded server if there is one."""

    main: Database
    mimir: VaultDatabase
    embedded: EmbeddedPostgres | None

    async def ensure_running(self) -> bool:
        """Restart the embedded server if it is gone; True when it was. Without one: False."""
        return False if self.embedded is None else await self.embedded.ensure_running()

    async def close(self) -> None:
        await self.main.close()
        await self.mimir.close()
        if self.embedded is not None:
            await self.embedded.stop_async()


async def bootstrap(settings: Settings, keys: Keys, clock: Clock, ids: IdSource) -> Databases:
    """Everything ready for the first request, or an error that says what to do.

    Errors: ConfigurationError, Unavailable.
    """
    embedded: EmbeddedPostgres | None = None
    if settings.database_url is None or settings.mimir_database_url is None:
        embedded = EmbeddedPostgres(
            settings.data_dir,
            password=keys.role_password("postgres"),
            pg_bin=settings.pg_bin,
            connections_max=(len(MAIN_ROLES) + 1) * settings.database_connections_max + CONNECTIONS_SPARE,
        )
        await embedded.start_async()
        main_address, mimir_address = embedded.address(MAIN_DATABASE), embedded.address(MIMIR_DATABASE)
        main_admin = mimir_admin = embedded.superuser
    else:
        main_address, main_admin = parse_url(settings.database_url, field="database_url")
        mimir_address, mimir_admin = parse_url(settings.mimir_database_url, field="mimir_database_url")
    try:
        if embedded is not None:
            await create_databases(embedded, MAIN_DATABASE, MIMIR_DATABASE)
        await prepare(main_address, main_admin, MAIN, keys, clock)
        await prepare(mimir_address, mimir_admin, MIMIR, keys, clock)
    except BaseException:
        if embedded is not None:
            await embedded.stop_async()
        raise
    connections_max = settings.database_connections_max
    return Databases(
        main=open_database(main_address, keys, clock, ids, connections_max=connections_max),
        mimir=open_pool(
            mimir_address, MIMIR_ROLE, keys.role_password(MIMIR_ROLE), connections_max=connections_max
        ),
        embedded=embedded,
    )


@contextlib.asynccontextmanager
async def attach(settings: Settings, keys: Keys, clock: Clock, ids: IdSource) -> AsyncIterator[Database]:
    """The main database for a command: of the server running on `data_dir`, of the URL, or started for it.

    Nothing is migrated unless the embedded server is started here. Errors: ConfigurationError, Unavailable.
    """
    if settings.database_url is not None:
        address, _ = parse_url(settings.database_url, field="database_url")
    elif socket_dir := running_socket(settings.data_dir):
        address = Address(host=str(socket_dir), port=PORT_DEFAULT, database=MAIN_DATABASE)
    else:
        databases = await bootstrap(settings, keys, clock, ids)
        try:
            yield databases.main
        finally:
            await databases.close()
        return
    database = open_database(address, keys, clock, ids, connections_max=COMMAND_CONNECTIONS_MAX)
    try:
        yield database
    finally:
        await database.close()


async def prepare(address: Address, admin: Login, plan: Plan, keys: Keys, clock: Clock) -> list[str]:
    """Roles and migrations of one database; the names of the migrations applied now."""
    await prepare_roles(address, admin, plan, keys.role_password)
    return await migrate(address, Login(plan.owner, keys.role_password(plan.owner)), plan, clock)


def open_database(
    address: Address, keys: Keys, clock: Clock, ids: IdSource, *, connections_max: int = 10
) -> Database:
    """The five pools. Nothing is opened before the first transaction."""
    pools = {
        role: RolePool(address, Login(role, keys.role_password(role)), connections_max=connections_max)
        for role in MAIN_ROLES
    }
    return Database(pools, clock=clock, ids=ids)


async def create_databases(embedded: EmbeddedPostgres, *names: str) -> None:
    """Make the databases that are missing. The server's own are closed to the login roles: from there they
    would read the statistics of ours.
    """
    connection = await connect(embedded.address(), embedded.superuser)
    try:
        await connection.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        for name in names:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
                try:
                    await connection.execute(f'CREATE DATABASE "{name}"')
                except asyncpg.DuplicateDatabaseError:
                    continue
    finally:
        await connection.close()
