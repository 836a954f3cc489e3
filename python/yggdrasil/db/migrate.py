"""Roles and migrations: SQL files, once, in order, each in a transaction of its own, one runner at a time.

Roles belong to the server, so they are made here by the administrator's login; everything inside a database
is made by the
owner role, which nobody uses otherwise. Applied files are remembered with their checksum: history is not
edited.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from yggdrasil.db.address import Address, Login, connect
from yggdrasil.db.binaries import MAJOR_MAX, MAJOR_MIN
from yggdrasil.db.linter_rules import STATISTICS
from yggdrasil.errors import ConfigurationError, Unavailable
from yggdrasil.kernel import Clock

_log = structlog.get_logger("yggdrasil.db")

MAIN_ROLES: Final = ("ygg_network", "ygg_identity", "ygg_market", "ygg_settle", "ygg_system")
MAIN_OWNER: Final = "ygg_owner"
MIMIR_ROLES: Final = ("ygg_mimir",)
MIMIR_OWNER: Final = "ygg_mimir_owner"
MIGRATIONS: Final = Path(__file__).with_name("migrations")
MIMIR_MIGRATIONS: Final = Path(__file__).parent.parent / "mimir" / "migrations"

LOCK_ID: Final = 0x59474744  # "YGGD", for pg_advisory_lock
LOCK_SECONDS_MAX: Final = 120.0
STATEMENT_SECONDS_MAX: Final = 600.0
SCRAM_ITERATIONS: Final = 4096
FILE_BYTES_MAX: Final = 1024 * 1024
_FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_ROLE_NAME: Final = re.compile(r"ygg_[a-z_]{1,32}")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `checksum` is the SHA-256 of its bytes."""

    number: int
    name: str
    sql: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one database is made of."""

    owner: str
    roles: tuple[str, ...]
    directory: Path


MAIN: Final = Plan(MAIN_OWNER, MAIN_ROLES, MIGRATIONS)
MIMIR: Final = Plan(MIMIR_OWNER, MIMIR_ROLES, MIMIR_MIGRATIONS)


def read_migrations(directory: Path) -> list[Migration]:
    """The files in order.

    Errors: ConfigurationError for a wrong or doubled name, or a file over the limit.
    """
    found: dict[int, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise ConfigurationError(f"migration {path.name}: must be named NNNN_name.sql")
        number = int(match.group(1))
        if number in found:
            raise ConfigurationError(
                f"migration {path.name}: the number {number:04d} is taken by {found[number].name}"
            )
        content = path.read_bytes()
        if len(content) > FILE_BYTES_MAX:
            raise ConfigurationError(f"migration {path.name}: over {FILE_BYTES_MAX} bytes")
        found[number] = Migration(number, path.stem, content.decode(), hashlib.sha256(content).hexdigest())
    return [found[number] for number in sorted(found)]


async def prepare_roles(address: Address, admin: Login, plan: Plan, password: Callable[[str], str]) -> None:
    """Make the login roles, or set their passwords anew; let them and nobody else into the database.

    `admin` may create roles and owns the database, or is superuser: then PostgreSQL's statistics, which count
    the rows of everybody past all policies, are closed to everybody but superusers and pg_monitor. Who is no
    superuser cannot, and the catalog linter says so.
    """
    connection = await connect(address, admin, command_timeout=STATEMENT_SECONDS_MAX)
    try:
        version = connection.get_server_version().major
        if not MAJOR_MIN <= version <= MAJOR_MAX:
            raise ConfigurationError(
                f"database_url: PostgreSQL {MAJOR_MIN} to {MAJOR_MAX} is needed, this is {version}",
                field="database_url",
            )
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_ID)
            for role in (plan.owner, *plan.roles):
                await _prepare_role(connection, role, password(role))
            names = ", ".join((plan.owner, *plan.roles))
            database = _quote_identifier(address.database)
            await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
            await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {names}")
            await connection.execute(f"GRANT CREATE ON DATABASE {database} TO {plan.owner}")
            if await connection.fetchval(
                "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname='public'"
            ):
                await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            await _close_statistics(connection)
    except asyncpg.PostgresError as error:
        raise ConfigurationError(
            f"database_url: cannot prepare the roles: {error}", field="database_url"
        ) from error
    finally:
        await connection.close()


async def migrate(
    address: Address, owner: Login, plan: Plan, clock: Clock, migrations: Sequence[Migration] | None = None
) -> list[str]:
    """Apply what is missing; returns the names applied now. Two runners at once: the second waits and finds
    nothing to do.

    Errors: ConfigurationError when an applied file has changed or gone, when a new file sorts below an
    applied one, or
    when a file fails (its transaction is rolled back; those before it stay).
    """
    wanted = read_migrations(plan.directory) if migrations is None else list(migrations)
    connection = await connect(address, owner, command_timeout=STATEMENT_SECONDS_MAX)
    try:
        await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS_MAX:.0f}s'")
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_ID)
        await _prepare_history(connection)
        applied = await _applied(connection)
        _check_history(wanted, applied)
        done: list[str] = []
        for migration in wanted:
            if migration.number in applied:
                continue
            await _apply(connection, migration, clock)
            done.append(migration.name)
    except (asyncpg.LockNotAvailableError, TimeoutError) as error:
        raise Unavailable("another process is migrating the database") from error
    else:
        return done
    finally:
        await connection.close()  # lets the lock go


async def _apply(connection: asyncpg.Connection, migration: Migration, clock: Clock) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO platform.migrations (number, name, checksum, applied_at)"
                " VALUES ($1, $2, $3, $4)",
                migration.number,
                migration.name,
                migration.checksum,
                clock.now(),
            )
    except asyncpg.PostgresError as error:
        raise ConfigurationError(
            f"migration {migration.name}: {error}{_place(error, migration.sql)}"
        ) from error


async def _prepare_history(connection: asyncpg.Connection) -> None:
    if await connection.fetchval("SELECT to_regclass('platform.migrations') IS NOT NULL"):
        return
    async with connection.transaction():
        await connection.execute(
            """
            CREATE SCHEMA IF NOT EXISTS platform;
            CREATE TABLE platform.migrations (
                number integer NOT NULL CHECK (number BETWEEN 1 AND 9999),
                name text NOT NULL CHECK (length(name) <= 200),
                checksum text NOT NULL CHECK (length(checksum) = 64),
                applied_at timestamptz NOT NULL,
                PRIMARY KEY (number)
            );
            ALTER TABLE platform.migrations ENABLE ROW LEVEL SECURITY;
            ALTER TABLE platform.migrations FORCE ROW LEVEL SECURITY;
            CREATE POLICY owner_all ON platform.migrations FOR ALL TO CURRENT_USER USING (true) WITH CHECK
            (true);
            DO $$ BEGIN
                IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'ygg_system') AND current_user = 'ygg_owner'
                THEN
                    GRANT SELECT ON platform.migrations TO ygg_system;
                    CREATE POLICY system_reads ON platform.migrations FOR SELECT TO ygg_system USING (true);
                END IF;
            END $$;
            """
        )


async def _applied(connection: asyncpg.Connection) -> dict[int, tuple[str, str]]:
    rows = await connection.fetch("SELECT number, name, checksum FROM platform.migrations ORDER BY number")
    return {row["number"]: (row["name"], row["checksum"]) for row in rows}


def _check_history(wanted: list[Migration], applied: dict[int, tuple[str, str]]) -> None:
    files = {migration.number: migration for migration in wanted}
    for number, (name, checksum) in applied.items():
        here = files.get(number)
        if here is None:
            raise ConfigurationError(
                f"migration {name}: applied to this database, but the file is missing: newer database?"
            )
        if here.checksum != checksum:
            raise ConfigurationError(
                f"migration {here.name}: the file changed after it was applied: write a new one"
            )
    last = max(applied, default=0)
    for migration in wanted:
        if migration.number < last and migration.number not in applied:
            raise ConfigurationError(
                f"migration {migration.name}: sorts before {last:04d}, which is applied already"
            )


async def _prepare_role(connection: asyncpg.Connection, role: str, password: str) -> None:
    if _ROLE_NAME.fullmatch(role) is None:
        raise ConfigurationError(f"role {role!r}: not a role of ours")
    row = await connection.fetchrow(
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb AS strong FROM pg_roles"
        " WHERE rolname = $1",
        role,
    )
    if row is not None and row["strong"]:
        raise ConfigurationError(
            f"role {role}: has rights beyond its grants (superuser, bypassrls, ...): take them away"
        )
    verb = "CREATE" if row is None else "ALTER"
    # The verifier and not the password: a server that logs its statements learns nothing. No character needs
    # quoting.
    await connection.execute(f"{verb} ROLE {role} LOGIN NOINHERIT PASSWORD '{scram_verifier(password)}'")


async def _close_statistics(connection: asyncpg.Connection) -> None:
    """Only what is still open, so that a start that finds nothing to do writes nothing."""
    if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        _log.warning("the administrator of database_url is no superuser: statistics stay open to the roles")
        return
    rows = await connection.fetch(
        f"SELECT name, callable FROM ({STATISTICS}) AS s"  # noqa: S608  our own pattern
        " WHERE EXISTS (SELECT FROM aclexplode(s.acl) g WHERE g.grantee = 0)"
    )
    for verb, kind, names in (
        ("SELECT", "TABLE", [row["name"] for row in rows if not row["callable"]]),
        ("EXECUTE", "FUNCTION", [row["name"] for row in rows if row["callable"]]),
    ):
        if names:
            listed = ", ".join(names)
            await connection.execute(f"GRANT {verb} ON {kind} {listed} TO pg_monitor")
            await connection.execute(f"REVOKE ALL ON {kind} {listed} FROM PUBLIC")


def scram_verifier(password: str) -> str:
    """What PostgreSQL keeps of an ASCII password (RFC 5803, SCRAM-SHA-256).

    The salt follows from the password, which is random.
    """
    secret = password.encode("ascii")
    salt = hashlib.sha256(b"scram salt\0" + secret).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(SCRAM_ITERATIONS, *parts)


def _quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _place(error: asyncpg.PostgresError, sql: str) -> str:
    position = getattr(error, "position", None)
    if position is None:
        return ""
    return f" (line {sql[: int(position)].count(chr(10)) + 1})"
