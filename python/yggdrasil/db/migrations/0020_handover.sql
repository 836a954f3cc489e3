-- Network ID hand-over: what a device away from home asks for, and what was handed to whom.

-- Before the proof nobody is known: an ask is found by its random id, its device's key, or the keyed digest of the address.
CREATE TABLE identity.hand_over_asks (
    flow uuid NOT NULL,
    address_key bytea NOT NULL CHECK (length(address_key) = 32),
    device_key bytea NOT NULL CHECK (length(device_key) = 32),
    sealing_key bytea NOT NULL CHECK (length(sealing_key) = 32),
    code_digest bytea NOT NULL CHECK (length(code_digest) = 32),
    tries integer NOT NULL CHECK (tries >= 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    -- Set together when a device at home said yes: whose, for which network, from which session and device.
    approved_user uuid,
    approved_network uuid,
    approved_session uuid,
    approved_device uuid,
    PRIMARY KEY (flow),
    CHECK (num_nonnulls(approved_user, approved_network, approved_session, approved_device) IN (0, 4))
);
CREATE INDEX hand_over_asks_expiry ON identity.hand_over_asks (expires_at);
CREATE INDEX hand_over_asks_of_address ON identity.hand_over_asks (address_key, created_at);
ALTER TABLE identity.hand_over_asks ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.hand_over_asks FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.hand_over_asks TO ygg_identity;
GRANT SELECT ON identity.hand_over_asks TO ygg_system;
CREATE POLICY identity_all ON identity.hand_over_asks FOR ALL TO ygg_identity USING (true) WITH CHECK (true);
CREATE POLICY system_reads ON identity.hand_over_asks FOR SELECT TO ygg_system USING (true);

-- A session that was handed over ends at this time, however often it is refreshed. NULL: a session of home.
ALTER TABLE identity.sessions ADD COLUMN ends_at timestamptz;

-- What was handed over: one row for each parcel that was sealed, made in the transaction that opens its session.
CREATE TABLE tenant.hand_overs (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    hand_over_id uuid NOT NULL,
    user_id uuid NOT NULL,
    session_id uuid NOT NULL,
    device_key bytea NOT NULL CHECK (length(device_key) = 32),
    device_name text NOT NULL CHECK (length(device_name) BETWEEN 1 AND 80),
    proven_by text NOT NULL CHECK (proven_by IN ('code', 'device')),
    approved_by uuid,
    asked_at timestamptz NOT NULL,
    given_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_by uuid,
    PRIMARY KEY (network_id, hand_over_id),
    UNIQUE (network_id, session_id),
    CHECK ((proven_by = 'device') = (approved_by IS NOT NULL)),
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX hand_overs_of_network ON tenant.hand_overs (network_id, given_at DESC, hand_over_id DESC);
CREATE INDEX hand_overs_of_user ON tenant.hand_overs (user_id);
CREATE INDEX hand_overs_age ON tenant.hand_overs (ends_at);
ALTER TABLE tenant.hand_overs ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.hand_overs FORCE ROW LEVEL SECURITY;
GRANT SELECT, UPDATE (revoked_at, revoked_by) ON tenant.hand_overs TO ygg_network;
GRANT SELECT, INSERT, DELETE ON tenant.hand_overs TO ygg_identity;
GRANT SELECT, DELETE ON tenant.hand_overs TO ygg_system;

-- The person, and whoever answers for the network, see and revoke.
CREATE POLICY network_select ON tenant.hand_overs FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT platform.current_role_name()) IN ('owner', 'admin')
        )
    );
CREATE POLICY network_revoke ON tenant.hand_overs FOR UPDATE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT platform.current_role_name()) IN ('owner', 'admin')
        )
    )
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND revoked_by = (SELECT platform.current_user_id())
    );
-- A proof names the person and the network; a person who is erased takes these rows along, in every network.
CREATE POLICY identity_claims ON tenant.hand_overs FOR INSERT TO ygg_identity
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY identity_reads_own ON tenant.hand_overs FOR SELECT TO ygg_identity
    USING (user_id = (SELECT platform.current_user_id()));
CREATE POLICY identity_erases_own ON tenant.hand_overs FOR DELETE TO ygg_identity
    USING (user_id = (SELECT platform.current_user_id()));
CREATE POLICY system_reads ON tenant.hand_overs FOR SELECT TO ygg_system USING (true);
CREATE POLICY retention_deletes ON tenant.hand_overs FOR DELETE TO ygg_system
    USING ((SELECT platform.current_job()) = 'session-retention');
