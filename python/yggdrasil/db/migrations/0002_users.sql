-- Sign-in: flows, counters, known devices, sessions, erasures, revocations, API keys.
-- Nothing here names a person: an address appears only as a keyed digest, under a key that the vault's index does not share.

CREATE TABLE identity.login_flows (
    flow uuid NOT NULL,
    address_key bytea NOT NULL CHECK (length(address_key) = 32),
    device_key bytea NOT NULL CHECK (length(device_key) = 32),
    code_digest bytea NOT NULL CHECK (length(code_digest) = 32),
    tries integer NOT NULL CHECK (tries >= 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (flow)
);
CREATE INDEX login_flows_expiry ON identity.login_flows (expires_at);

-- One row per counted thing and kind; the row's window starts with its first count.
CREATE TABLE identity.login_limits (
    kind text NOT NULL CHECK (kind IN ('send', 'try', 'try_day')),
    counted_key bytea NOT NULL CHECK (length(counted_key) = 32),
    window_start timestamptz NOT NULL,
    hits integer NOT NULL CHECK (hits >= 0),
    PRIMARY KEY (kind, counted_key)
);
CREATE INDEX login_limits_age ON identity.login_limits (window_start);

-- Keys of devices that have signed in to the account of an address; they are counted apart from strangers.
CREATE TABLE identity.known_devices (
    address_key bytea NOT NULL CHECK (length(address_key) = 32),
    device_key bytea NOT NULL CHECK (length(device_key) = 32),
    user_id uuid NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (address_key, device_key)
);
CREATE INDEX known_devices_of_user ON identity.known_devices (user_id, seen_at);

CREATE TABLE identity.sessions (
    session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    network_id uuid NOT NULL,
    device_key bytea NOT NULL CHECK (length(device_key) = 32),
    device_id uuid,
    counter integer NOT NULL CHECK (counter >= 1),
    created_at timestamptz NOT NULL,
    refreshed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_for text CHECK (revoked_for IN ('logout', 'theft', 'deleted', 'limit')),
    PRIMARY KEY (session_id),
    CHECK ((revoked_at IS NULL) = (revoked_for IS NULL))
);
CREATE INDEX sessions_of_user ON identity.sessions (user_id, created_at);
CREATE INDEX sessions_expiry ON identity.sessions (expires_at);

-- What was asked to be erased: the vault is another database, so the wish is kept until it is done there, and after that as
-- the list by which an erasure is repeated when the vault is restored from a backup.
CREATE TABLE identity.erasures (
    user_id uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    erased_at timestamptz,
    PRIMARY KEY (user_id)
);
CREATE INDEX erasures_open ON identity.erasures (requested_at) WHERE erased_at IS NULL;

-- What ended in the last minutes: how a node that did not do it learns of it, and a node that starts.
CREATE TABLE identity.revocations (
    revocation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    session_id uuid,
    key_id uuid,
    epoch integer CHECK (epoch >= 0),
    at timestamptz NOT NULL,
    PRIMARY KEY (revocation_id),
    CHECK (num_nonnulls(session_id, key_id, epoch) = 1)
);
CREATE INDEX revocations_by_time ON identity.revocations (at);

CREATE TABLE tenant.api_keys (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    key_id uuid NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    secret_digest bytea NOT NULL CHECK (length(secret_digest) = 32),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (network_id, key_id)
);
CREATE INDEX api_keys_of_user ON tenant.api_keys (network_id, user_id, created_at, key_id);

ALTER TABLE identity.login_flows ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.login_flows FORCE ROW LEVEL SECURITY;
ALTER TABLE identity.login_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.login_limits FORCE ROW LEVEL SECURITY;
ALTER TABLE identity.known_devices ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.known_devices FORCE ROW LEVEL SECURITY;
ALTER TABLE identity.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE identity.erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.erasures FORCE ROW LEVEL SECURITY;
ALTER TABLE identity.revocations ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.revocations FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.api_keys FORCE ROW LEVEL SECURITY;

GRANT SELECT, INSERT, UPDATE, DELETE ON identity.login_flows TO ygg_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.login_limits TO ygg_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.known_devices TO ygg_identity;
GRANT SELECT, INSERT, UPDATE ON identity.sessions TO ygg_identity;
GRANT SELECT, INSERT, UPDATE ON identity.erasures TO ygg_identity;
GRANT SELECT, INSERT, DELETE ON identity.revocations TO ygg_identity;
GRANT INSERT ON identity.revocations TO ygg_network;
GRANT SELECT ON tenant.api_keys TO ygg_identity;
GRANT SELECT, INSERT, UPDATE ON tenant.api_keys TO ygg_network;
GRANT SELECT ON identity.login_flows, identity.login_limits, identity.known_devices, identity.sessions,
    identity.erasures, identity.revocations, tenant.api_keys TO ygg_system;
GRANT DELETE ON identity.sessions TO ygg_system;

-- Before the proof there is no user to claim: flows, counters and known devices are found by random ids and keyed digests.
CREATE POLICY identity_all ON identity.login_flows FOR ALL TO ygg_identity USING (true) WITH CHECK (true);
CREATE POLICY identity_all ON identity.login_limits FOR ALL TO ygg_identity USING (true) WITH CHECK (true);
CREATE POLICY identity_all ON identity.known_devices FOR ALL TO ygg_identity USING (true) WITH CHECK (true);
-- Work lists, read across users by the sweep of every node.
CREATE POLICY identity_all ON identity.erasures FOR ALL TO ygg_identity USING (true) WITH CHECK (true);
CREATE POLICY identity_all ON identity.revocations FOR ALL TO ygg_identity USING (true) WITH CHECK (true);
-- A refresh token names its user, and its MAC is checked before this scope is made.
CREATE POLICY identity_own ON identity.sessions FOR ALL TO ygg_identity
    USING (user_id = (SELECT platform.current_user_id()))
    WITH CHECK (user_id = (SELECT platform.current_user_id()));
CREATE POLICY network_ends_own_keys ON identity.revocations FOR INSERT TO ygg_network
    WITH CHECK (key_id IS NOT NULL AND user_id = (SELECT platform.current_user_id()));

-- A key's text claims its network; only that network's keys can be looked at.
CREATE POLICY identity_claimed ON tenant.api_keys FOR SELECT TO ygg_identity
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY network_own ON tenant.api_keys FOR ALL TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
    )
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
    );

CREATE POLICY system_reads ON identity.login_flows FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON identity.login_limits FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON identity.known_devices FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON identity.sessions FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON identity.erasures FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON identity.revocations FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON tenant.api_keys FOR SELECT TO ygg_system USING (true);
CREATE POLICY retention_deletes ON identity.sessions FOR DELETE TO ygg_system
    USING ((SELECT platform.current_job()) = 'session-retention');
