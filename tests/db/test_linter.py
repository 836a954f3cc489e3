# ruff: noqa: E501  one break a line
"""The linter finds nothing in our catalog, and finds each of these: a linter that never went red
proves nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.conftest import MAIN_TEMPLATE, MIMIR_TEMPLATE, Cluster
from tests.support import as_superuser
from yggdrasil.db import Database
from yggdrasil.db.address import Address, Login, connect
from yggdrasil.db.linter import MAIN_HOUSE, MIMIR_HOUSE, RULES, Finding, House, lint, lint_on
from yggdrasil.db.migrate import MAIN_OWNER
from yggdrasil.errors import Unavailable

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

POLICY = "CREATE POLICY job ON {0} FOR SELECT TO ygg_system USING (true); GRANT SELECT ON {0} TO ygg_system;"
FORCED = "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY; ALTER TABLE {0} FORCE ROW LEVEL SECURITY;"
READABLE = FORCED + POLICY
MINE = "network_id = (SELECT platform.current_network())"
CLOSED = "REVOKE ALL ON FUNCTION {0} FROM PUBLIC;"
OWNED = "REVOKE ALL ON FUNCTION {0} FROM PUBLIC; ALTER FUNCTION {0} OWNER TO ygg_owner;"
PATH = "SET search_path = pg_catalog, pg_temp"

# (rule, object, SQL): the SQL breaks this rule and no other.
BAD = [
    ("row-security", "tenant.good", "ALTER TABLE tenant.good DISABLE ROW LEVEL SECURITY"),
    ("row-security", "tenant.good", "ALTER TABLE tenant.good NO FORCE ROW LEVEL SECURITY"),
    ("row-security", "jobs.bare", "CREATE TABLE jobs.bare (id uuid PRIMARY KEY);" + POLICY.format("jobs.bare")),
    ("row-security", "platform.nodes", "ALTER TABLE platform.nodes NO FORCE ROW LEVEL SECURITY"),
    ("row-security", "identity.sessions", "ALTER TABLE identity.sessions DISABLE ROW LEVEL SECURITY"),
    ("policy-public", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT USING (false)"),
    ("policy-check", "tenant.good", "DROP POLICY mine ON tenant.good; CREATE POLICY mine ON tenant.good FOR ALL"
     f" TO ygg_network USING ({MINE})"),
    ("policy-check", "tenant.good", "CREATE POLICY p ON tenant.good FOR ALL TO ygg_network WITH CHECK"
     f" ({MINE})"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_network USING (true)"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR INSERT TO ygg_network WITH CHECK (true)"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR ALL TO ygg_network"
     f" USING ({MINE}) WITH CHECK (true)"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_network"
     f" USING ({MINE} OR kind = 'a')"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_network"
     f" USING (({MINE} AND kind = 'b') OR kind = 'a')"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_network"
     f" USING (NOT ({MINE}))"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_network"
     " USING (id = (SELECT platform.current_network()))"),
    ("policy-unscoped", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_network"
     " USING (EXISTS (SELECT FROM tenant.networks n WHERE n.network_id = (SELECT platform.current_network())))"),
    ("policy-unscoped", "tenant.devices", "CREATE POLICY p ON tenant.devices FOR SELECT TO ygg_network"
     " USING (user_id = (SELECT platform.current_user_id()))"),
    ("policy-unscoped", "tenant.hand_overs", "CREATE POLICY p ON tenant.hand_overs FOR INSERT TO ygg_identity"
     " WITH CHECK (user_id = (SELECT platform.current_user_id()))"),
    ("policy-unscoped", "tenant.hand_overs", "CREATE POLICY p ON tenant.hand_overs FOR SELECT TO ygg_identity"
     " USING (user_id = (SELECT platform.current_user_id()) OR proven_by = 'code')"),
    ("policy-unscoped", "identity.accounts", "CREATE POLICY p ON identity.accounts FOR SELECT TO ygg_network USING (true)"),
    ("policy-unscoped", "platform.attempts", "CREATE POLICY p ON platform.attempts FOR SELECT TO ygg_settle USING (true)"),
    ("policy-unscoped", "platform.canaries", "GRANT SELECT ON platform.canaries TO ygg_market;"
     " CREATE POLICY p ON platform.canaries FOR SELECT TO ygg_market USING (true)"),
    ("policy-unscoped", "jobs.audit", "CREATE POLICY p ON jobs.audit FOR DELETE TO ygg_system USING (true)"),
    ("policy-calls", "tenant.good", "CREATE FUNCTION platform.mine(uuid) RETURNS boolean LANGUAGE sql RETURN true;"
     + CLOSED.format("platform.mine") + " GRANT EXECUTE ON FUNCTION platform.mine TO ygg_network;"
     f" CREATE POLICY p ON tenant.good FOR SELECT TO ygg_network USING ({MINE} AND platform.mine(id))"),
    ("scope-reader", "platform.current_network", "CREATE OR REPLACE FUNCTION platform.current_network() RETURNS uuid LANGUAGE sql"
     " STABLE PARALLEL SAFE RETURN nullif(current_setting('app.user', true), '')::uuid"),
    ("scope-reader", "platform.current_networks", "CREATE OR REPLACE FUNCTION platform.current_networks() RETURNS uuid[] LANGUAGE sql"
     " STABLE PARALLEL SAFE RETURN ARRAY(SELECT network_id FROM tenant.networks)"),
    ("grant-public", "tenant.good", "GRANT SELECT ON tenant.good TO PUBLIC"),
    ("grant-public", "tenant.good", "GRANT SELECT (name) ON tenant.good TO PUBLIC"),
    ("grant-public", "tenant", "GRANT USAGE ON SCHEMA tenant TO PUBLIC"),
    ("grant-public", "public", "GRANT CREATE ON SCHEMA public TO PUBLIC"),
    ("grant-public", "platform.loose", "CREATE FUNCTION platform.loose() RETURNS int LANGUAGE sql RETURN 1"),
    ("grant-public", "main_", "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database()); END $$"),
    ("grant-verb", "tenant.good", "GRANT TRUNCATE ON tenant.good TO ygg_network"),
    ("grant-verb", "tenant.good", "GRANT REFERENCES ON tenant.good TO ygg_identity"),
    ("grant-verb", "tenant.good", "GRANT SELECT ON tenant.good TO ygg_mimir"),
    ("grant-verb", "tenant.good", "GRANT SELECT (name) ON tenant.good TO ygg_mimir"),
    ("grant-verb", "platform.current_job", "GRANT EXECUTE ON FUNCTION platform.current_job TO ygg_mimir"),
    ("grant-option", "tenant.good", "GRANT SELECT ON tenant.good TO ygg_network WITH GRANT OPTION"),
    ("grant-option", "tenant.good", "GRANT SELECT (id) ON tenant.good TO ygg_network WITH GRANT OPTION"),
    ("grant-option", "platform.current_job", "GRANT EXECUTE ON FUNCTION platform.current_job TO ygg_network WITH GRANT OPTION"),
    ("grant-option", "tenant", "GRANT USAGE ON SCHEMA tenant TO ygg_network WITH GRANT OPTION"),
    ("grant-reach", "platform.attempts", "GRANT SELECT ON platform.attempts TO ygg_network; CREATE POLICY p ON platform.attempts"
     " FOR SELECT TO ygg_network USING (requester_network = (SELECT platform.current_network()))"),
    ("grant-reach", "jobs.audit", "GRANT SELECT (id) ON jobs.audit TO ygg_identity; CREATE POLICY p ON jobs.audit"
     " FOR SELECT TO ygg_identity USING (id = (SELECT platform.current_user_id()))"),
    ("grant-reach", "jobs", "GRANT USAGE ON SCHEMA jobs TO ygg_network"),
    ("grant-schema", "tenant", "GRANT CREATE ON SCHEMA tenant TO ygg_network"),
    ("grant-schema", "public", "GRANT USAGE ON SCHEMA public TO ygg_network"),
    ("grant-schema", "jobs", "GRANT USAGE ON SCHEMA jobs TO ygg_mimir"),
    ("grant-schema", "main_", "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO ygg_network', current_database()); END $$"),
    ("grant-without-policy", "tenant.good", "GRANT SELECT ON tenant.good TO ygg_settle"),
    ("grant-without-policy", "tenant.good", "GRANT UPDATE (name) ON tenant.good TO ygg_system"),
    ("grant-without-policy", "tenant.good", "GRANT SELECT ON tenant.good TO ygg_settle; CREATE POLICY p ON tenant.good"
     " AS RESTRICTIVE FOR SELECT TO ygg_settle USING (true)"),
    ("policy-without-grant", "tenant.good", "CREATE POLICY p ON tenant.good FOR SELECT TO ygg_settle"
     " USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]))"),
    ("default-privileges", "tenant", "ALTER DEFAULT PRIVILEGES FOR ROLE ygg_owner IN SCHEMA tenant GRANT SELECT ON TABLES TO ygg_network"),
    ("default-privileges", "everywhere", "ALTER DEFAULT PRIVILEGES FOR ROLE ygg_owner GRANT SELECT ON TABLES TO PUBLIC"),
    ("system-reads-all", "tenant.good", "DROP POLICY job ON tenant.good; REVOKE SELECT ON tenant.good FROM ygg_system"),
    ("system-reads-all", "tenant.good", "DROP POLICY job ON tenant.good; CREATE POLICY job ON tenant.good FOR SELECT"
     " TO ygg_system USING (network_id = (SELECT platform.current_network()))"),
    ("primary-key", "tenant.good", "ALTER TABLE tenant.good DROP CONSTRAINT good_pkey"),
    ("tenant-key", "tenant.good", "ALTER TABLE tenant.good DROP CONSTRAINT good_pkey, ADD PRIMARY KEY (id)"),
    ("tenant-key", "tenant.good", "ALTER TABLE tenant.good ADD UNIQUE (id, network_id)"),
    ("tenant-key", "tenant.good", "CREATE UNIQUE INDEX ON tenant.good (lower(name))"),
    ("tenant-key", "tenant.good", "CREATE UNIQUE INDEX ON tenant.good (name) WHERE kind = 'a'"),
    ("tenant-key", "tenant.good", "ALTER TABLE tenant.good ADD EXCLUDE USING btree (id WITH =)"),
    ("tenant-key", "tenant.child", "CREATE TABLE tenant.child (network_id uuid NOT NULL, id uuid, other uuid,"
     " PRIMARY KEY (network_id, id), FOREIGN KEY (other, id) REFERENCES tenant.good (network_id, id));"
     + READABLE.format("tenant.child")),
    ("tenant-key", "tenant.child", "CREATE TABLE tenant.child (id uuid PRIMARY KEY);" + READABLE.format("tenant.child")),
    ("global-key", "identity.names", "CREATE TABLE identity.names (name text PRIMARY KEY CHECK (length(name) < 9));"
     + READABLE.format("identity.names")),
    ("global-key", "identity.accounts", "CREATE UNIQUE INDEX ON identity.accounts (created_at)"),
    ("global-key", "platform.attempts", "CREATE UNIQUE INDEX ON platform.attempts ((attempt_id::text))"),
    ("global-key", "jobs.audit", "ALTER TABLE jobs.audit ADD EXCLUDE USING btree (at WITH =)"),
    ("foreign-key", "jobs.child", "CREATE TABLE jobs.child (network_id uuid PRIMARY KEY REFERENCES tenant.networks);"
     + READABLE.format("jobs.child")),
    ("foreign-key", "platform.child", "CREATE TABLE platform.child (id uuid PRIMARY KEY, number integer REFERENCES"
     " platform.migrations);" + READABLE.format("platform.child")),
    ("generated", "tenant.good.n", "ALTER TABLE tenant.good ADD n bigint GENERATED ALWAYS AS IDENTITY"),
    ("generated", "tenant.good.n", "ALTER TABLE tenant.good ADD n bigserial"),
    ("generated", "tenant.good.at", "ALTER TABLE tenant.good ALTER at SET DEFAULT now()"),
    ("generated", "tenant.good.at", "ALTER TABLE tenant.good ALTER at SET DEFAULT current_timestamp"),
    ("generated", "tenant.good.at", "ALTER TABLE tenant.good ALTER at SET DEFAULT clock_timestamp() + '1 day'"),
    ("generated", "tenant.good.id", "ALTER TABLE tenant.good ALTER id SET DEFAULT gen_random_uuid()"),
    ("generated", "tenant.numbers", "CREATE SEQUENCE tenant.numbers"),
    ("generated", "public.numbers", "CREATE SEQUENCE public.numbers"),
    ("type", "tenant.good.at", "ALTER TABLE tenant.good ALTER at TYPE timestamp"),
    ("type", "tenant.good.price_microcents", "ALTER TABLE tenant.good ALTER price_microcents TYPE numeric"),
    ("type", "tenant.good.price_microcents", "ALTER TABLE tenant.good ALTER price_microcents TYPE integer"),
    ("type", "tenant.good.name", "ALTER TABLE tenant.good ALTER name TYPE varchar(64)"),
    ("type", "tenant.mood", "CREATE TYPE tenant.mood AS ENUM ('good', 'bad')"),
    ("type", "tenant.good.price_microcents", "CREATE DOMAIN platform.price AS integer;"
     " ALTER TABLE tenant.good ALTER price_microcents TYPE platform.price"),
    ("unlimited", "tenant.good.note", "ALTER TABLE tenant.good ADD note text"),
    ("unlimited", "tenant.good.note", "ALTER TABLE tenant.good ADD note text CHECK (note <> '')"),
    ("unlimited", "tenant.good.note", "ALTER TABLE tenant.good ADD note text, ADD CHECK (length(name) < 9 OR note IS NULL)"),
    ("unlimited", "tenant.good.raw", "ALTER TABLE tenant.good ADD raw bytea"),
    ("unlimited", "tenant.good.raw", "ALTER TABLE tenant.good ADD raw jsonb"),
    ("unlimited", "tenant.good.note", "CREATE DOMAIN platform.note AS text; ALTER TABLE tenant.good ADD note platform.note"),
    ("unlimited", "tenant.good.note", "CREATE DOMAIN platform.note AS text CHECK (VALUE <> '');"
     " ALTER TABLE tenant.good ADD note platform.note"),
    ("deferrable", "tenant.good", "ALTER TABLE tenant.good ADD UNIQUE (network_id, name) DEFERRABLE"),
    ("unlogged", "tenant.good", "ALTER TABLE tenant.good SET UNLOGGED"),
    ("inheritance", "tenant.child", "CREATE TABLE tenant.child (PRIMARY KEY (network_id, id)) INHERITS (tenant.good);"
     + READABLE.format("tenant.child")),
    ("inheritance", "tenant.parts_a", "CREATE TABLE tenant.parts (network_id uuid NOT NULL, id uuid, PRIMARY KEY (network_id, id))"
     " PARTITION BY HASH (network_id); CREATE TABLE tenant.parts_a PARTITION OF tenant.parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
     + READABLE.format("tenant.parts") + READABLE.format("tenant.parts_a")),
    ("row-security", "tenant.parts_a", "CREATE TABLE tenant.parts (network_id uuid NOT NULL, id uuid, PRIMARY KEY (network_id, id))"
     " PARTITION BY HASH (network_id); CREATE TABLE tenant.parts_a PARTITION OF tenant.parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
     + READABLE.format("tenant.parts")),
    ("definer", "platform.strong", "CREATE FUNCTION platform.strong() RETURNS int LANGUAGE sql SECURITY DEFINER RETURN 1;"
     + CLOSED.format("platform.strong")),
    ("definer", "public.strong", f"CREATE FUNCTION public.strong() RETURNS int LANGUAGE plpgsql SECURITY DEFINER {PATH}"
     " AS 'BEGIN RETURN 1; END'"),
    ("search-path", "platform.loose", "CREATE FUNCTION platform.loose() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';"
     + CLOSED.format("platform.loose")),
    ("search-path", "tenant.loose", "CREATE FUNCTION tenant.loose() RETURNS int LANGUAGE plpgsql SET search_path = public"
     " AS 'BEGIN RETURN 1; END';" + CLOSED.format("tenant.loose")),
    ("search-path", "tenant.loose", "CREATE FUNCTION tenant.loose() RETURNS int LANGUAGE sql AS 'SELECT 1';"
     + CLOSED.format("tenant.loose")),
    ("function-setting", "platform.blind", "CREATE FUNCTION platform.blind() RETURNS int LANGUAGE sql SET row_security = off"
     " RETURN 1;" + CLOSED.format("platform.blind")),
    ("function-setting", "platform.other", "CREATE FUNCTION platform.other() RETURNS int LANGUAGE sql SET app.network = 'x'"
     " RETURN 1;" + OWNED.format("platform.other()")),
    ("dynamic-sql", "platform.open", f"CREATE FUNCTION platform.open(what text) RETURNS void LANGUAGE plpgsql {PATH}"
     " AS $$ BEGIN EXECUTE format('DELETE FROM tenant.%I', what); END $$;" + CLOSED.format("platform.open")),
    ("language", "platform.native", f"CREATE FUNCTION platform.native() RETURNS timestamptz LANGUAGE internal {PATH} AS 'now';"
     + OWNED.format("platform.native()")),
    ("leakproof", "platform.early", "CREATE FUNCTION platform.early(uuid) RETURNS boolean LANGUAGE sql LEAKPROOF RETURN true;"
     + OWNED.format("platform.early(uuid)")),
    ("sets-scope", "platform.become", "CREATE FUNCTION platform.become(n text) RETURNS text LANGUAGE sql"
     " RETURN set_config('app.network', n, true);" + CLOSED.format("platform.become")),
    ("sets-scope", "platform.become", f"CREATE FUNCTION platform.become() RETURNS void LANGUAGE plpgsql {PATH}"
     " AS $$ BEGIN SET LOCAL app.network = 'x'; END $$;" + CLOSED.format("platform.become")),
    ("sets-scope", "platform.enter_scope", "GRANT EXECUTE ON FUNCTION platform.enter_scope TO ygg_network"),
    ("calls", "good", "CREATE FUNCTION platform.fine(text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN true;"
     + CLOSED.format("platform.fine") + " ALTER TABLE tenant.good ADD CHECK (platform.fine(name))"),
    ("calls", "note", "CREATE FUNCTION platform.fine(text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN true;"
     + CLOSED.format("platform.fine") + " CREATE DOMAIN platform.note AS text CHECK (length(VALUE) < 9 AND platform.fine(VALUE))"),
    ("calls", "n", "CREATE FUNCTION platform.fine(text) RETURNS int LANGUAGE sql IMMUTABLE RETURN 1;"
     + CLOSED.format("platform.fine") + " ALTER TABLE tenant.good ADD n int GENERATED ALWAYS AS (platform.fine(name)) STORED"),
    ("calls", "good", "CREATE FUNCTION platform.fine(text) RETURNS int LANGUAGE sql IMMUTABLE RETURN 1;"
     + CLOSED.format("platform.fine") + " CREATE INDEX ON tenant.good (platform.fine(name))"),
    ("trigger", "tenant.good", f"CREATE FUNCTION platform.after() RETURNS trigger LANGUAGE plpgsql {PATH}"
     " AS 'BEGIN RETURN NULL; END';" + CLOSED.format("platform.after")
     + " CREATE TRIGGER t AFTER INSERT ON tenant.good EXECUTE FUNCTION platform.after()"),
    ("rewrite", "tenant.good", "CREATE RULE r AS ON DELETE TO tenant.good DO INSTEAD NOTHING"),
    ("view", "tenant.all_good", "CREATE VIEW tenant.all_good AS SELECT * FROM tenant.good"),
    ("view", "tenant.all_good", "CREATE VIEW tenant.all_good WITH (security_invoker = false) AS SELECT * FROM tenant.good"),
    ("view", "tenant.all_good", "CREATE MATERIALIZED VIEW tenant.all_good AS SELECT * FROM tenant.good"),
    ("owner", "tenant.good", "ALTER TABLE tenant.good OWNER TO postgres"),
    ("owner", "tenant", "ALTER SCHEMA tenant OWNER TO postgres"),
    ("owner", "platform.current_job", "ALTER FUNCTION platform.current_job OWNER TO postgres"),
    ("owner", "ygg_network", "CREATE DOMAIN platform.mine AS text CHECK (length(VALUE) < 9);"
     " ALTER DOMAIN platform.mine OWNER TO ygg_network"),
    ("statistics", "ygg_network", "GRANT SELECT ON pg_catalog.pg_stat_user_tables TO ygg_network"),
    ("statistics", "ygg_", "GRANT SELECT (n_live_tup) ON pg_catalog.pg_stat_all_tables TO PUBLIC"),
    ("statistics", "ygg_", "GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_get_live_tuples TO PUBLIC"),
    ("statistics", "ygg_settle", "GRANT EXECUTE ON FUNCTION pg_catalog.pg_relation_size(regclass, text) TO ygg_settle"),
    ("stray", "public.bare", "CREATE TABLE public.bare (id uuid PRIMARY KEY)"),
    ("stray", "other.bare", "CREATE SCHEMA other; CREATE TABLE other.bare (id uuid PRIMARY KEY)"),
    ("stray", "cast", "CREATE CAST (platform.hold_end AS text) WITH INOUT"),
    ("foreign-server", "afar", "CREATE FOREIGN DATA WRAPPER afar"),
    ("publication", "all_of_it", "CREATE PUBLICATION all_of_it FOR TABLE tenant.good"),
    ("event-trigger", "watch", f"CREATE FUNCTION platform.watch() RETURNS event_trigger LANGUAGE plpgsql {PATH} AS 'BEGIN END';"
     + OWNED.format("platform.watch()") + " CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION platform.watch()"),
    ("large-object", "large object", "SELECT lo_from_bytea(0, 'x')"),
]  # fmt: skip

# What belongs to the server and not to the database.
BAD_SERVER = [
    ("role", "ygg_market", "ALTER ROLE ygg_market BYPASSRLS"),
    ("role", "ygg_market", "ALTER ROLE ygg_market SUPERUSER"),
    ("role", "ygg_owner", "ALTER ROLE ygg_owner CREATEROLE"),
    ("role", "ygg_market", "ALTER ROLE ygg_market INHERIT"),
    ("role", "ygg_market", "GRANT ygg_system TO ygg_market"),
    ("role", "ygg_market", "GRANT pg_read_all_data TO ygg_market"),
    ("role-setting", "ygg_market", "ALTER ROLE ygg_market SET app.network = 'x'"),
    ("role-setting", "ygg_owner", "ALTER ROLE ygg_owner SET row_security = off"),
    ("role-setting", "every database", "ALTER ROLE ALL SET app.network = 'x'"),
    ("parameter", "ygg_market", "GRANT SET ON PARAMETER session_replication_role TO ygg_market"),
]


@pytest.fixture(scope="module")
async def prepared(cluster: Cluster) -> AsyncIterator[Address]:
    """Our database with one more table, made by the rules."""
    name = await cluster.clone(MAIN_TEMPLATE)
    address = cluster.server.address(name)
    connection = await connect(address, owner_of(cluster))
    try:
        await connection.execute(GOOD)
    finally:
        await connection.close()
    yield address
    await cluster.drop(name)


def owner_of(cluster: Cluster) -> Login:
    return Login(MAIN_OWNER, cluster.keys.role_password(MAIN_OWNER))


async def found_after(address: Address, login: Login, sql: str) -> list[Finding]:
    """What the linter finds in the middle of a transaction that is rolled back."""
    connection = await connect(address, login)
    try:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(sql)
            return await lint_on(connection, MAIN_HOUSE)
        finally:
            await transaction.rollback()
    finally:
        await connection.close()


@pytest.mark.parametrize(("house", "template"), [(MAIN_HOUSE, MAIN_TEMPLATE), (MIMIR_HOUSE, MIMIR_TEMPLATE)])
async def test_our_catalog_is_clean(cluster: Cluster, house: House, template: str) -> None:
    findings = await lint(cluster.server.address(template), cluster.admin, house)
    assert [str(finding) for finding in findings] == []


async def test_a_table_by_the_rules_is_clean(prepared: Address, cluster: Cluster) -> None:
    assert await lint(prepared, cluster.admin, MAIN_HOUSE) == []


@pytest.mark.parametrize(("rule", "where", "sql"), BAD)
async def test_each_break_is_found(
    prepared: Address, cluster: Cluster, rule: str, where: str, sql: str
) -> None:
    """By the owner, as a migration would; what only a superuser may, by the superuser."""
    try:
        # There a GRANT in vain is only a warning.
        login = cluster.admin if "DATABASE" in sql else owner_of(cluster)
        findings = await found_after(prepared, login, sql)
    except asyncpg.InsufficientPrivilegeError:
        findings = await found_after(prepared, cluster.admin, sql)
    assert {found.rule for found in findings} == {rule}, findings
    assert any(where in found.object for found in findings), findings


@pytest.mark.parametrize(("rule", "where", "sql"), BAD_SERVER)
async def test_each_break_of_the_server_is_found(
    prepared: Address, cluster: Cluster, rule: str, where: str, sql: str
) -> None:
    findings = await found_after(prepared, cluster.admin, sql)
    # A superuser may also read every statistic.
    found = {(one.rule, one.object) for one in findings} - {("statistics", where)}
    assert found == {(rule, where)}, findings


def test_every_rule_has_a_break() -> None:
    assert {rule for rule, _, _ in BAD} | {rule for rule, *_ in BAD_SERVER} == set(RULES)


@pytest.mark.parametrize(("house", "template"), [(MAIN_HOUSE, MAIN_TEMPLATE), (MIMIR_HOUSE, MIMIR_TEMPLATE)])
async def test_no_exception_outlives_what_it_was_for(cluster: Cluster, house: House, template: str) -> None:
    connection = await connect(cluster.server.address(template), cluster.admin)
    try:
        for names, sql in (
            (
                house.open_policies,
                "SELECT schemaname || '.' || tablename || '.' || policyname FROM pg_policies",
            ),
            (house.global_keys, "SELECT schemaname || '.' || indexname FROM pg_indexes"),
            (house.scope_functions, "SELECT pronamespace::regnamespace || '.' || proname FROM pg_proc"),
        ):
            there = {row[0] for row in await connection.fetch(sql)}
            assert set(names) <= there, set(names) - there
    finally:
        await connection.close()


STATISTICS = (
    "SELECT n_live_tup FROM pg_stat_user_tables",
    "SELECT query FROM pg_stat_activity",
    "SELECT * FROM pg_locks",
    "SELECT tablename FROM pg_stats",
    "SELECT pg_stat_get_live_tuples('tenant.networks'::regclass)",
    "SELECT pg_relation_size('tenant.networks')",
    "SELECT pg_total_relation_size('tenant.networks')",
    "SELECT pg_database_size(current_database())",
)


@pytest.mark.parametrize("sql", STATISTICS)
async def test_statistics_are_out_of_reach(database: Database, admin: Login, sql: str) -> None:
    await as_superuser(database, admin, sql)  # the control: it is a question that has an answer
    for role, pool in database.pools.items():
        connection = await connect(pool.address, pool.login)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(sql)
        finally:
            await connection.close()
        assert role


async def test_a_login_role_cannot_look_from_another_database(database: Database, cluster: Cluster) -> None:
    for name in ("postgres", "template1"):
        for pool in database.pools.values():
            with pytest.raises((asyncpg.InsufficientPrivilegeError, Unavailable)):
                await connect(cluster.server.address(name), pool.login)
