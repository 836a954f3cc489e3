-- API keys with limits, models, an end, a last use and an overlap at rotation; what each of them has spent.

ALTER TABLE tenant.api_keys
    ADD COLUMN spend_limit_microcents bigint CHECK (spend_limit_microcents >= 0),
    ADD COLUMN monthly_limit_microcents bigint CHECK (monthly_limit_microcents >= 0),
    ADD COLUMN models text[] CHECK (cardinality(models) BETWEEN 1 AND 64),
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN rotated_at timestamptz,
    -- The text before the last rotation, which works until the overlap ends.
    ADD COLUMN previous_digest bytea CHECK (length(previous_digest) = 32),
    ADD COLUMN previous_until timestamptz,
    ADD CONSTRAINT api_keys_overlap CHECK ((previous_digest IS NULL) = (previous_until IS NULL));

-- The poster reads what a key may spend, and never its digests.
GRANT SELECT (network_id, key_id, spend_limit_microcents, monthly_limit_microcents, expires_at, revoked_at)
    ON tenant.api_keys TO ygg_settle;
CREATE POLICY settle_select ON tenant.api_keys FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
-- Uses are noted for many keys at once, and nothing else is.
GRANT UPDATE (last_used_at) ON tenant.api_keys TO ygg_system;
CREATE POLICY key_use_update ON tenant.api_keys FOR UPDATE TO ygg_system
    USING ((SELECT platform.current_job()) = 'key-use')
    WITH CHECK ((SELECT platform.current_job()) = 'key-use');

-- What a key holds and has spent, in all and in each month (UTC) by the month of the hold. The limit is the key's at the
-- row's making; no key's limit changes. The last CHECK is the law that a limit is hard.
CREATE TABLE tenant.key_spend (
    network_id uuid NOT NULL,
    key_id uuid NOT NULL,
    period text NOT NULL CHECK (length(period) <= 7 AND (period = 'total' OR period ~ '^[0-9]{4}-[0-9]{2}$')),
    limit_microcents bigint CHECK (limit_microcents >= 0),
    held_microcents bigint NOT NULL CHECK (held_microcents >= 0),
    spent_microcents bigint NOT NULL CHECK (spent_microcents >= 0),
    PRIMARY KEY (network_id, key_id, period),
    CHECK (held_microcents + spent_microcents <= limit_microcents)
) WITH (fillfactor = 70);
ALTER TABLE tenant.key_spend ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.key_spend FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON tenant.key_spend TO ygg_settle;
GRANT UPDATE (held_microcents, spent_microcents) ON tenant.key_spend TO ygg_settle;
GRANT SELECT ON tenant.key_spend TO ygg_network, ygg_system;
CREATE POLICY settle_all ON tenant.key_spend FOR ALL TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]))
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
-- A key is its user's, and so is what it spent.
CREATE POLICY network_own ON tenant.key_spend FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND EXISTS (
            SELECT FROM tenant.api_keys k
            WHERE k.network_id = key_spend.network_id AND k.key_id = key_spend.key_id
              AND k.user_id = (SELECT platform.current_user_id())
        )
    );
CREATE POLICY system_select ON tenant.key_spend FOR SELECT TO ygg_system USING (true);

ALTER TABLE tenant.holds
    ADD COLUMN key_id uuid,
    ADD COLUMN key_month text CHECK (length(key_month) = 7),
    ADD CONSTRAINT holds_of_key CHECK ((key_id IS NULL) = (key_month IS NULL));

-- Operators: people who run the house. A credential of theirs opens nothing of a tenant without a reason that the tenant reads.
CREATE TABLE identity.operators (
    operator_id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    secret_digest bytea NOT NULL CHECK (length(secret_digest) = 32),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (operator_id)
);
ALTER TABLE identity.operators ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.operators FORCE ROW LEVEL SECURITY;
GRANT SELECT ON identity.operators TO ygg_identity, ygg_system;
GRANT INSERT, UPDATE (revoked_at) ON identity.operators TO ygg_system;
-- The lookup of a credential, before anybody is known.
CREATE POLICY identity_looks_up ON identity.operators FOR SELECT TO ygg_identity USING (true);
CREATE POLICY system_reads ON identity.operators FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_makes ON identity.operators FOR INSERT TO ygg_system
    WITH CHECK ((SELECT platform.current_job()) = 'operators');
CREATE POLICY system_revokes ON identity.operators FOR UPDATE TO ygg_system
    USING ((SELECT platform.current_job()) = 'operators' AND revoked_at IS NULL)
    WITH CHECK ((SELECT platform.current_job()) = 'operators');

-- What an operator opened of a network, and why: written before it is shown, read by the network, never changed. Without an
-- operator it was opened at the server's console. `user_id` is whose row it was, if it was one person's.
CREATE TABLE tenant.openings (
    network_id uuid NOT NULL,
    opening_id uuid NOT NULL,
    operator_id uuid,
    user_id uuid,
    subject text NOT NULL CHECK (length(subject) <= 16 AND subject IN ('network', 'request')),
    subject_id uuid NOT NULL,
    reason text NOT NULL CHECK (length(reason) BETWEEN 3 AND 300),
    at timestamptz NOT NULL,
    PRIMARY KEY (network_id, opening_id)
);
CREATE INDEX openings_of_network ON tenant.openings (network_id, at DESC, opening_id DESC);
ALTER TABLE tenant.openings ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.openings FORCE ROW LEVEL SECURITY;
GRANT SELECT ON tenant.openings TO ygg_network;
GRANT SELECT, INSERT ON tenant.openings TO ygg_system;
CREATE POLICY network_select ON tenant.openings FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT platform.current_role_name()) IN ('owner', 'admin')
        )
    );
CREATE POLICY system_select ON tenant.openings FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_opens ON tenant.openings FOR INSERT TO ygg_system
    WITH CHECK ((SELECT platform.current_job()) IN ('explain', 'operator'));
