"""Leaks of the schema, and of how the database is opened."""

from __future__ import annotations

from tests.isolation.mutants import Mutant, Patch

LINTER = "tests/db/test_linter.py::test_our_catalog_is_clean"
SCOPES = "tests/db/test_scopes.py"
ROWS = "tests/marketplace/test_rows.py"
MINE = "network_id = (SELECT platform.current_network())"
READ = "FOR SELECT TO ygg_network"

MUTANTS = (
    Mutant(
        "policy-lets-everybody-read",
        "the policy that reads devices asks for nothing",
        (ROWS + "::test_no_scope_sees_a_row_of_another_network", LINTER),
        sql="ALTER POLICY devices_network_select ON tenant.devices USING (true)",
    ),
    Mutant(
        "policy-dropped-and-security-off",
        "row security of the transactions is switched off",
        (ROWS + "::test_no_scope_sees_a_row_of_another_network", LINTER),
        sql="ALTER TABLE tenant.transactions DISABLE ROW LEVEL SECURITY",
    ),
    Mutant(
        "security-not-forced",
        "the owner of the entries is above their policies",
        (LINTER,),
        sql="ALTER TABLE tenant.entries NO FORCE ROW LEVEL SECURITY",
    ),
    Mutant(
        "using-without-check",
        "a device can be written into another network: USING without WITH CHECK",
        (LINTER, ROWS),
        sql="DROP POLICY devices_network_insert ON tenant.devices;"
        f" CREATE POLICY devices_network_insert ON tenant.devices FOR ALL TO ygg_network USING ({MINE})",
    ),
    Mutant(
        "check-without-scope",
        "WITH CHECK of an update lets the row leave its network",
        (ROWS + "::test_no_row_leaves_its_network_or_is_deleted_from_another", LINTER),
        sql="ALTER POLICY devices_network_update ON tenant.devices WITH CHECK (name <> '')",
    ),
    Mutant(
        "policy-or",
        "a policy with an OR at its top: one more way in",
        (ROWS, LINTER),
        sql=f"ALTER POLICY offers_network_select ON tenant.offers USING ({MINE} OR audience = 'market')",
    ),
    Mutant(
        "global-unique",
        "device ids are unique over all networks",
        ("tests/devices/test_service.py::test_ids_are_unique_in_a_network_only", LINTER),
        sql="ALTER TABLE tenant.devices ADD UNIQUE (device_id)",
    ),
    Mutant(
        "global-idempotency-key",
        "an idempotency key is used once in the whole house",
        ("tests/payments/test_isolation.py::test_an_idempotency_key_is_a_networks_own", LINTER),
        sql="CREATE UNIQUE INDEX ON tenant.payments (idempotency_key);"
        " CREATE UNIQUE INDEX ON tenant.transactions (idempotency_key) WHERE idempotency_key IS NOT NULL",
    ),
    Mutant(
        "foreign-key-without-network",
        "a foreign key that any network's device satisfies",
        (LINTER,),
        sql="CREATE UNIQUE INDEX devices_ids ON tenant.devices (id); ALTER TABLE tenant.transactions"
        " ADD FOREIGN KEY (device) REFERENCES tenant.devices (id)",
    ),
    Mutant(
        "id-sequence",
        "transactions are numbered: the number tells how many others made",
        (LINTER,),
        sql="CREATE SEQUENCE tenant.numbers; GRANT USAGE ON SEQUENCE tenant.numbers TO ygg_settle",
    ),
    Mutant(
        "security-definer",
        "a function that counts as its owner, with the caller's search_path",
        (LINTER,),
        sql="CREATE FUNCTION platform.count_networks() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
        " AS 'SELECT count(*) FROM tenant.networks';"
        " REVOKE ALL ON FUNCTION platform.count_networks FROM PUBLIC;"
        " GRANT EXECUTE ON FUNCTION platform.count_networks TO ygg_network",
    ),
    Mutant(
        "grant-to-public",
        "everybody who can log in reads the networks",
        (LINTER,),
        sql="GRANT USAGE ON SCHEMA tenant TO PUBLIC; GRANT SELECT ON tenant.networks TO PUBLIC",
    ),
    Mutant(
        "view-of-its-owner",
        "a view that reads as its owner",
        (LINTER,),
        sql="CREATE VIEW tenant.all_devices AS SELECT * FROM tenant.devices;"
        " GRANT SELECT ON tenant.all_devices TO ygg_network",
    ),
    Mutant(
        "materialized-totals",
        "a materialized view with everybody's sums",
        (LINTER,),
        sql="CREATE MATERIALIZED VIEW tenant.totals AS SELECT network_id, sum(posted_microcents) AS sum"
        " FROM tenant.balances GROUP BY network_id; GRANT SELECT ON tenant.totals TO ygg_network",
    ),
    Mutant(
        "revocations-for-everybody",
        "who was signed out anywhere can be read by every network",
        (LINTER,),
        sql="GRANT SELECT ON identity.revocations TO ygg_network;"
        f" CREATE POLICY heard ON identity.revocations {READ} USING (true)",
    ),
    Mutant(
        "market-reads-transactions",
        "the router reads who bought what",
        (LINTER,),
        sql="GRANT SELECT ON tenant.transactions TO ygg_market;"
        " CREATE POLICY market ON tenant.transactions FOR SELECT TO ygg_market USING (true)",
    ),
    Mutant(
        "settle-sees-all-books",
        "the poster reads the entries of every network",
        (ROWS, SCOPES, LINTER),
        sql="ALTER POLICY settle_select ON tenant.entries USING (true);"
        " ALTER POLICY settle_reads ON tenant.networks USING (true)",
    ),
    Mutant(
        "job-sees-nothing",
        "the reconciler finds no hold, and looks green",
        ("tests/marketplace/test_reconciler.py", LINTER),
        sql="DROP POLICY system_select ON tenant.holds;"
        f" CREATE POLICY system_select ON tenant.holds FOR SELECT TO ygg_system USING ({MINE})",
    ),
    Mutant(
        "any-job-writes",
        "a job that is not the reconciler deletes stored results",
        (LINTER,),
        sql="ALTER POLICY results_system_delete ON tenant.results USING (true)",
    ),
    Mutant(
        "member-reads-members-transactions",
        "a member reads what another member of the network bought",
        ("tests/marketplace/test_borders.py",),
        sql=f"ALTER POLICY transactions_network_select ON tenant.transactions USING ({MINE})",
    ),
    Mutant(
        "member-holds-members-keys",
        "a member rotates and revokes another member's API keys",
        ("tests/users/test_borders.py",),
        sql=f"ALTER POLICY network_own ON tenant.api_keys USING ({MINE})",
    ),
    Mutant(
        "member-reads-members-decisions",
        "a member reads why another member's registration was refused",
        ("tests/nornen/test_service.py",),
        (
            Patch(
                "nornen/store.py",
                '" WHERE network_id = $1 AND user_id = $2 AND id = $3",',
                '" WHERE network_id = $1 AND ($2::uuid IS NOT NULL) AND id = $3",',
            ),
        ),
        sql=f"ALTER POLICY registrations_network_select ON tenant.registrations USING ({MINE})",
    ),
    Mutant(
        "statistics-open",
        "PostgreSQL's statistics count everybody's rows for everybody",
        (LINTER,),
        (
            Patch(
                "db/migrate.py",
                "            await _close_statistics(connection)\n",
                "            del database\n",
            ),
        ),
    ),
    Mutant(
        "owner-connection",
        "the pools log in as the owner of the tables",
        (SCOPES,),
        (
            Patch(
                "db/bootstrap.py",
                "role: RolePool(address, Login(role, keys.role_password(role)), ",
                'role: RolePool(address, Login("ygg_owner", keys.role_password("ygg_owner")), ',
            ),
        ),
    ),
    Mutant(
        "role-bypasses-row-security",
        "the login roles are made with BYPASSRLS",
        (LINTER,),
        (Patch("db/migrate.py", "LOGIN NOINHERIT PASSWORD", "LOGIN NOINHERIT BYPASSRLS PASSWORD"),),
    ),
    Mutant(
        "ledger-function-forgets-the-wallets-network",
        "holding an amount takes it from every wallet in the scope",
        ("tests/batches/test_machine.py", "tests/payments"),
        (
            Patch(
                "db/migrations/0011_ledger_functions.sql",
                "WHERE b.network_id = take_hold.network_id AND b.account = 'wallet'\n          AND b.posted",
                "WHERE b.account = 'wallet'\n          AND b.posted",
            ),
        ),
    ),
    Mutant(
        "settle-scope-of-a-foreign-network",
        "all items of a batch are written in the scope of the first",
        ("tests/batches/test_items.py", "tests/batches/test_machine.py"),
        (
            Patch(
                "db/migrations/0014_money_batches.sql",
                "        item := items[place];\n        scope := platform.enter_scope(item.networks);\n"
                "        outcome := NULL;",
                "        item := items[place];\n"
                "        scope := platform.enter_scope((items[1]).networks);\n        outcome := NULL;",
            ),
        ),
    ),
)
