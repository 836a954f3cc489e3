"""The source checks: clean on our source, red on each of these."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from yggdrasil.db.checks import PACKAGE, check, lint_sql, lint_store, main

GOOD_STORE = '''
"""SET ROLE in a docstring is prose."""
from yggdrasil.db import Tx

async def find(tx: Tx, network_id: object) -> object:
    """SELECT now() is prose too."""
    return await tx.fetchrow("SELECT id FROM x WHERE at < $1 AND name = 'now()' -- not now()", network_id)

def _shape(row: object) -> object:
    return row

_COLUMNS = "id, n"

class Rows:
    async def some(self, tx: Tx, newest: bool) -> object:
        order = " ORDER BY n DESC" if newest else ""
        return await tx.fetch(f"SELECT {_COLUMNS} FROM tenant.x" + order)

    async def all(self, tx: Tx) -> object:
        return await tx.fetch("UPDATE tenant.x SET n = 1")
'''


def test_our_source_is_clean() -> None:
    assert check() == []
    assert list(PACKAGE.rglob("store*.py"))
    assert list(PACKAGE.rglob("*.sql"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT now()",
        "INSERT INTO x VALUES (NOW ( ))",
        "SELECT current_timestamp",
        "SELECT CURRENT_DATE",
        "SELECT clock_timestamp()",
        "SELECT transaction_timestamp()",
        "SELECT gen_random_uuid()",
        "SELECT uuidv7()",
        "SELECT nextval('x')",
        "SELECT random()",
        "SET ROLE ygg_system",
        "SELECT 1; SET LOCAL ROLE ygg_system",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION postgres",
        "SET app.network = 'x'",
        "SELECT 1;\n  set search_path to public",
        "SELECT set_config('app.network', $1, false)",
        "COMMIT",
        "SELECT 1; BEGIN",
        "CREATE TABLE x (id bigserial)",
        "CREATE TABLE x (id int GENERATED ALWAYS AS IDENTITY)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER RETURN 1",
        "GRANT SELECT ON x TO PUBLIC",
        "COPY x FROM STDIN",
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql RETURN set_config('app.networks', 'x', true)",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; COMMIT; END $$",
    ],
)
def test_each_banned_statement_is_found(sql: str) -> None:
    assert list(lint_sql(sql))
    assert list(lint_store(ast.parse(f"async def f(tx: Tx) -> None:\n    await tx.execute({sql!r})")))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE x SET known = 1",
        "SET LOCAL lock_timeout = '1s'",
        "SELECT 'now()' -- now()",
        "/* SET ROLE x;\n now() */ SELECT knowhow",
        "INSERT INTO x (n) VALUES ($1) ON CONFLICT (n) DO UPDATE\n SET n = 2",
        "REVOKE ALL ON x FROM PUBLIC",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN n := 1; END $$",
        "CREATE FUNCTION platform.enter_scope(n text) RETURNS text RETURN set_config('app.x', n, true);",
    ],
)
def test_what_only_looks_alike_is_left_alone(sql: str) -> None:
    assert list(lint_sql(sql)) == []


def test_a_good_store_is_clean() -> None:
    assert list(lint_store(ast.parse(GOOD_STORE))) == []


@pytest.mark.parametrize(
    "source",
    [
        "async def find(network_id: UUID, tx: Tx): ...",
        "async def find(tx): ...",
        "async def find(): ...",
        "def find(row): ...",
        "async def _find(connection): ...",
        "class Store:\n    async def find(self, database: Database): ...",
        "class Store:\n    @staticmethod\n    async def find(row, tx: Tx): ...",
        "async def find(tx: Tx, sql: str):\n    await tx.fetch(sql)",
        "async def find(tx: Tx, order: str):\n    await tx.fetch(f'SELECT id FROM x ORDER BY {order}')",
        "async def find(tx: Tx, order: str):\n    await tx.fetch('SELECT id FROM x ORDER BY ' + order)",
        "async def find(tx: Tx, name: str):\n    sql = 'SELECT id FROM ' + name\n    await tx.fetch(sql)",
        "async def find(tx: Tx, name: str):\n    await tx.fetch('SELECT id FROM {}'.format(name))",
        "async def find(tx: Tx, name: str):\n    await tx.fetch('SELECT id FROM %s' % name)",
        "async def find(tx: Tx):\n    await tx.fetchval('SELECT reltuples FROM pg_class')",
        "async def find(tx: Tx):\n    await tx.fetchval('SELECT n_live_tup FROM pg_stat_user_tables')",
        "async def find(tx: Tx):\n    await Row.objects().first()",
        "async def find(tx: Tx):\n    await tx.fetchval('SELECT platform.admit_batch($1)')",
        "async def find(tx: Tx):\n    await tx.fetchval('SELECT platform.enter_scope($1)')",
        "async def find(tx: Tx):\n    await Row.objects().get_or_create(Row.id == 1)",
        "async def find(tx: Tx, row: Row):\n    await row.save()",
    ],
)
def test_each_bad_store_is_found(source: str) -> None:
    assert list(lint_store(ast.parse(source)))


def test_the_command_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.sql").write_text("SELECT 1;\nSELECT now();\n")
    assert main([str(tmp_path)]) == 1
    assert "one.sql:2:" in capsys.readouterr().out
    (tmp_path / "one.sql").unlink()
    assert main([str(tmp_path)]) == 0
