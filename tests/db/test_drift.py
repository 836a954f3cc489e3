"""Each context's Piccolo classes against the migrated database, and each kind of drift found."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from piccolo.columns import (
    JSONB,
    UUID,
    Array,
    BigInt,
    Boolean,
    Bytea,
    Column,
    Integer,
    Text,
    Timestamptz,
    Varchar,
)
from piccolo.table import Table

from tests.conftest import MIMIR_TEMPLATE, Cluster
from tests.support import as_superuser
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.db.checks import PACKAGE
from yggdrasil.db.drift import drift
from yggdrasil.db.engine import ENGINE

CONTEXTS = sorted(path.parent.name for path in PACKAGE.glob("*/tables.py"))
MIMIR_SCHEMA = "vault"
MAKE = """CREATE TABLE tenant.sample (
    id uuid PRIMARY KEY, label text, amount bigint NOT NULL, few integer NOT NULL, yes boolean NOT NULL,
    at timestamptz NOT NULL, raw bytea NOT NULL, doc jsonb NOT NULL, others uuid[] NOT NULL, short text NOT
    NULL)"""


def columns() -> dict[str, Column]:
    return {
        "id": UUID(primary_key=True),
        "label": Text(null=True),
        "amount": BigInt(),
        "few": Integer(),
        "yes": Boolean(),
        "at": Timestamptz(),
        "raw": Bytea(),
        "doc": JSONB(),
        "others": Array(base_column=UUID()),
        "short": Varchar(),
    }


def table(**changes: Column | None) -> type[Table]:
    body = {name: column for name, column in (columns() | changes).items() if column is not None}

    class Sample(Table, schema="tenant", tablename="sample", db=ENGINE):
        locals().update(body)

    return Sample


@pytest.mark.parametrize("context", CONTEXTS)
async def test_classes_tell_the_truth(database: Database, cluster: Cluster, context: str) -> None:
    module = importlib.import_module(f"yggdrasil.{context}.tables")
    tables = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Table)]
    tables.remove(Table)
    assert tables
    # For a table without one, Piccolo would look for an engine: one that connects, past all scopes.
    assert [each for each in tables if each._meta._db is not ENGINE] == []
    vault = [each for each in tables if each._meta.schema == MIMIR_SCHEMA]
    rest = [each for each in tables if each not in vault]
    assert await drift(database.pools["ygg_system"].address, cluster.admin, rest) == []
    assert await drift(cluster.server.address(MIMIR_TEMPLATE), cluster.admin, vault) == []


async def test_every_table_has_a_class(database: Database, admin: Login) -> None:
    """Foundation tables are written by raw SQL of this package and of registration; all others have a
    class.
    """
    known = {("tenant", "networks"), ("identity", "accounts"), ("identity", "memberships")}
    known |= {("platform", "migrations"), ("platform", "nodes"), ("jobs", "audit")}
    for context in CONTEXTS:
        module = importlib.import_module(f"yggdrasil.{context}.tables")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, Table) and each is not Table:
                known.add((str(each._meta.schema), each._meta.tablename))
    rows = await as_superuser(
        database,
        admin,
        "SELECT schemaname, tablename FROM pg_tables"
        " WHERE schemaname IN ('tenant', 'identity', 'platform', 'jobs')",
    )
    assert {(row["schemaname"], row["tablename"]) for row in rows} - known == set()


async def test_the_same_on_both_sides_is_no_drift(database: Database, admin: Login) -> None:
    await as_superuser(database, admin, MAKE)
    assert await drift(database.pools["ygg_system"].address, admin, [table()]) == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"extra": Text()}, "tenant.sample.extra: not in the database"),
        ({"amount": None}, "tenant.sample.amount: not in the class"),
        ({"amount": Integer()}, "tenant.sample.amount: integer in the class, bigint in the database"),
        ({"label": Text(null=False)}, "tenant.sample.label: nullable is False in the class"),
        ({"at": Timestamptz(null=True)}, "tenant.sample.at: nullable is True in the class"),
        (
            {"others": Array(base_column=Text())},
            "tenant.sample.others: text[] in the class, uuid[] in the database",
        ),
        ({"doc": Bytea()}, "tenant.sample.doc: bytea in the class, jsonb in the database"),
    ],
)
async def test_each_drift_is_found(
    database: Database, admin: Login, changes: dict[str, Column | None], difference: str
) -> None:
    await as_superuser(database, admin, MAKE)
    assert await drift(database.pools["ygg_system"].address, admin, [table(**changes)]) == [difference]


async def test_a_table_that_is_not_there(database: Database, admin: Login) -> None:
    assert await drift(database.pools["ygg_system"].address, admin, [table()]) == [
        "tenant.sample: no such table"
    ]


def test_no_context_is_forgotten() -> None:
    assert {"devices", "marketplace", "mimir", "payments", "users"} <= set(CONTEXTS)
    assert Path(PACKAGE / "db").is_dir()
