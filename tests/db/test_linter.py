# ruff: noqa: E501  one break a line
"""The linter finds nothing in our catalog, and finds each of these: a linter that never went red
proves nothing.
"""

from __future__ import annotations

import pytest

from tests.conftest import MIMIR_TEMPLATE, Cluster
from tests.support import as_superuser
from yggdrasil.db import Database
from yggdrasil.db.address import Address, Login, connect
from yggdrasil.db.linter import MAIN_HOUSE, MIMIR_HOUSE, RULES, lint
from yggdrasil.db.migrate import MAIN_OWNER
from yggdrasil.keys import Keys

GOOD = """
    CREATE TABLE tenant.good (
        network_id uuid NOT NULL, id uuid NOT NULL, name text NOT NULL CHECK (length(name) <= 64),
        kind text NOT NULL CHECK (kind IN ('a', 'b')), price_microcents bigint NOT NULL, at timestamptz NOT
        NULL, code platform.error_code, mood platform.hold_state, paid_microcents platform.microcents,
        PRIMARY KEY (network_id, id));
    ALTER TABLE tenant.good ENABLE ROW LEVEL SECURITY;
    ALTER TABLE tenant.good FORCE ROW LEVEL SECURITY;
    GRANT SELECT, INSERT ON tenant.good TO ygg_network;
    GRANT SELECT ON tenant.good TO ygg_system;
    CREATE POLICY mine ON tenant.good FOR ALL TO ygg_network USING (network_id = (SELECT
    platform.current_network()))
        WITH CHECK (network_id = (SELECT platform.current_network()));
    CREATE POLICY job ON tenant.good FOR SELECT TO ygg_system USING (true);
"""

BAD = [
    ("row-security", "tenant.good", "ALTER TABLE tenant.good DISABLE ROW LEVEL SECURITY"),
    ("row-security", "tenant.good", "ALTER TABLE tenant.good NO FORCE ROW LEVEL SECURITY"),
    ("row-security", "jobs.bare", "CREATE TABLE jobs.bare (id uuid PRIMARY KEY)"),
    ("row-security", "platform.nodes", "ALTER TABLE platform.nodes NO FORCE ROW LEVEL SECURITY"),
    ("policy-public", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT USING (false)"),
    ("policy-check", "tenant.good", "DROP POLICY mine ON tenant.good; CREATE POLICY mine ON tenant.good FOR ALL"
     " TO ygg_network USING (network_id = (SELECT platform.current_network()))"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_network USING (true)"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR INSERT TO ygg_settle WITH CHECK (true)"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR UPDATE TO ygg_network"
     " USING (network_id = (SELECT platform.current_network())) WITH CHECK (true)"),
    ("grant-public", "tenant.good", "GRANT SELECT ON tenant.good TO PUBLIC"),
    ("grant-public", "tenant.good", "GRANT SELECT (name) ON tenant.good TO PUBLIC"),
    ("grant-public", "tenant", "GRANT USAGE ON SCHEMA tenant TO PUBLIC"),
    ("grant-public", "platform.loose", "CREATE FUNCTION platform.loose() RETURNS int LANGUAGE sql RETURN 1"),
    ("grant-verb", "tenant.good", "GRANT TRUNCATE ON tenant.good TO ygg_network"),
    ("grant-verb", "tenant.good", "GRANT REFERENCES ON tenant.good TO ygg_identity"),
    ("grant-verb", "tenant.good", "GRANT SELECT ON tenant.good TO ygg_mimir"),
    ("grant-without-policy", "tenant.good", "GRANT SELECT ON tenant.good TO ygg_settle"),
    ("grant-without-policy", "tenant.good", "GRANT UPDATE (name) ON tenant.good TO ygg_system"),
    ("policy-without-grant", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_market USING (true)"),
    ("system-reads-all", "tenant.good", "DROP POLICY job ON tenant.good"),
    ("system-reads-all", "tenant.good", "REVOKE SELECT ON tenant.good FROM ygg_system"),
    ("system-reads-all", "tenant.good", "DROP POLICY job ON tenant.good; CREATE POLICY job ON tenant.good FOR SELECT"
     " TO ygg_system USING (network_id = (SELECT platform.current_network()))"),
    ("primary-key", "tenant.good", "ALTER TABLE tenant.good DROP CONSTRAINT good_pkey"),
    ("tenant-key", "tenant.good", "ALTER TABLE tenant.good DROP CONSTRAINT good_pkey, ADD PRIMARY KEY (id)"),
    ("tenant-key", "tenant.good", "ALTER TABLE tenant.good ADD UNIQUE (id, network_id)"),
    ("tenant-key", "tenant.good", "CREATE UNIQUE INDEX ON tenant.good (lower(name))"),
    ("tenant-key", "tenant.good", "CREATE UNIQUE INDEX ON tenant.good (name) WHERE kind = 'a'"),
    ("tenant-key", "tenant.good", "ALTER TABLE tenant.good ADD EXCLUDE USING btree (id WITH =)"),
    ("tenant-key", "tenant.child", "CREATE TABLE tenant.child (network_id uuid NOT NULL, id uuid, other uuid,"
     " PRIMARY KEY (network_id, id), FOREIGN KEY (other, id) REFERENCES tenant.good (network_id, id))"),
    ("tenant-key", "tenant.child", "CREATE TABLE tenant.child (id uuid PRIMARY KEY)"),
    ("foreign-schema", "jobs.child", "CREATE TABLE jobs.child (network_id uuid PRIMARY KEY REFERENCES tenant.networks)"),
    ("generated", "tenant.good.n", "ALTER TABLE tenant.good ADD n bigint GENERATED ALWAYS AS IDENTITY"),
    ("generated", "tenant.good.n", "ALTER TABLE tenant.good ADD n bigserial"),
    ("generated", "tenant.good.at", "ALTER TABLE tenant.good ALTER at SET DEFAULT now()"),
    ("generated", "tenant.good.at", "ALTER TABLE tenant.good ALTER at SET DEFAULT current_timestamp"),
    ("generated", "tenant.good.at", "ALTER TABLE tenant.good ALTER at SET DEFAULT clock_timestamp() + '1 day'"),
    ("generated", "tenant.good.id", "ALTER TABLE tenant.good ALTER id SET DEFAULT gen_random_uuid()"),
    ("generated", "tenant.numbers", "CREATE SEQUENCE tenant.numbers"),
    ("type", "tenant.good.at", "ALTER TABLE tenant.good ALTER at TYPE timestamp"),
    ("type", "tenant.good.price_microcents", "ALTER TABLE tenant.good ALTER price_microcents TYPE numeric"),
    ("type", "tenant.good.price_microcents", "ALTER TABLE tenant.good ALTER price_microcents TYPE integer"),
    ("type", "tenant.good.name", "ALTER TABLE tenant.good ALTER name TYPE varchar(64)"),
    ("type", "tenant.mood", "CREATE TYPE tenant.mood AS ENUM ('good', 'bad')"),
    ("unlimited", "tenant.good.note", "ALTER TABLE tenant.good ADD note text"),
    ("unlimited", "tenant.good.note", "ALTER TABLE tenant.good ADD note text CHECK (note <> '')"),
    ("unlimited", "tenant.good.note", "ALTER TABLE tenant.good ADD note text, ADD CHECK (length(name) < 9 OR note IS NULL)"),
    ("unlimited", "tenant.good.raw", "ALTER TABLE tenant.good ADD raw bytea"),
    ("unlimited", "tenant.good.raw", "ALTER TABLE tenant.good ADD raw jsonb"),
    ("unlimited", "tenant.good.note", "CREATE DOMAIN platform.note AS text; ALTER TABLE tenant.good ADD note platform.note"),
    ("unlimited", "tenant.good.note", "CREATE DOMAIN platform.note AS text CHECK (VALUE <> '');"
     " ALTER TABLE tenant.good ADD note platform.note"),
    ("type", "tenant.good.price_microcents", "CREATE DOMAIN platform.price AS integer;"
     " ALTER TABLE tenant.good ALTER price_microcents TYPE platform.price"),
    ("deferrable", "tenant.good", "ALTER TABLE tenant.good ADD UNIQUE (network_id, name) DEFERRABLE"),
    ("unlogged", "tenant.good", "ALTER TABLE tenant.good SET UNLOGGED"),
    ("definer", "platform.strong", "CREATE FUNCTION platform.strong() RETURNS int LANGUAGE sql SECURITY DEFINER RETURN 1"),
    ("search-path", "platform.loose", "CREATE FUNCTION platform.loose() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'"),
    ("search-path", "tenant.loose", "CREATE FUNCTION tenant.loose() RETURNS int LANGUAGE plpgsql SET search_path = public"
     " AS 'BEGIN RETURN 1; END'"),
    ("definer", "public.strong", "CREATE FUNCTION public.strong() RETURNS int LANGUAGE sql SECURITY DEFINER RETURN 1"),
    ("view", "tenant.all_good", "CREATE VIEW tenant.all_good AS SELECT * FROM tenant.good"),
    ("view", "tenant.all_good", "CREATE MATERIALIZED VIEW tenant.all_good AS SELECT * FROM tenant.good"),
    ("owner", "tenant.good", "ALTER TABLE tenant.good OWNER TO postgres"),
    ("stray", "public.bare", "CREATE TABLE public.bare (id uuid PRIMARY KEY)"),
    ("stray", "other.bare", "CREATE SCHEMA other; CREATE TABLE other.bare (id uuid PRIMARY KEY)"),
    ("stray", "hstore", "CREATE EXTENSION hstore"),
]  # fmt: skip


def address_of(database: Database) -> Address:
    return database.pools["ygg_network"].address


@pytest.fixture
async def prepared(database: Database, admin: Login, keys: Keys) -> Database:
    """With one more table, made by the rules."""
    connection = await connect(address_of(database), Login(MAIN_OWNER, keys.role_password(MAIN_OWNER)))
    try:
        await connection.execute(GOOD)
    finally:
        await connection.close()
    return database


async def test_our_catalog_is_clean(database: Database, admin: Login) -> None:
    assert [str(finding) for finding in await lint(address_of(database), admin, MAIN_HOUSE)] == []


async def test_mimirs_catalog_is_clean(cluster: Cluster) -> None:
    findings = await lint(cluster.server.address(MIMIR_TEMPLATE), cluster.admin, MIMIR_HOUSE)
    assert [str(finding) for finding in findings] == []


async def test_a_table_by_the_rules_is_clean(prepared: Database, admin: Login) -> None:
    assert await lint(address_of(prepared), admin, MAIN_HOUSE) == []


@pytest.mark.parametrize(("rule", "where", "sql"), BAD)
async def test_each_break_is_found(prepared: Database, admin: Login, rule: str, where: str, sql: str) -> None:
    connection = await connect(address_of(prepared), admin)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
    findings = await lint(address_of(prepared), admin, MAIN_HOUSE)
    assert any(found.rule == rule and found.object.startswith(where) for found in findings), findings


@pytest.mark.parametrize(
    ("make", "undo"),
    [
        ("ALTER ROLE ygg_market BYPASSRLS", "ALTER ROLE ygg_market NOBYPASSRLS"),
        ("ALTER ROLE ygg_market SUPERUSER", "ALTER ROLE ygg_market NOSUPERUSER"),
        ("GRANT ygg_system TO ygg_market", "REVOKE ygg_system FROM ygg_market"),
    ],
)
async def test_a_role_too_strong_is_found(database: Database, admin: Login, make: str, undo: str) -> None:
    await as_superuser(database, admin, make)
    try:
        findings = await lint(address_of(database), admin, MAIN_HOUSE)
    finally:
        await as_superuser(database, admin, undo)
    assert [(found.rule, found.object) for found in findings] == [("role", "ygg_market")]


def test_every_rule_has_a_break() -> None:
    assert {rule for rule, _, _ in BAD} | {"role"} == set(RULES)
