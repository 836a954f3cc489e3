-- Schemas, the functions policies read the scope with, networks, accounts, memberships, nodes and the audit of jobs.
-- The roles exist already: yggdrasil.db.migrate makes them, because roles belong to the server and not to a database.

CREATE SCHEMA tenant;
CREATE SCHEMA identity;
CREATE SCHEMA jobs;

GRANT USAGE ON SCHEMA platform TO ygg_network, ygg_identity, ygg_market, ygg_settle, ygg_system;
GRANT USAGE ON SCHEMA tenant TO ygg_network, ygg_identity, ygg_market, ygg_settle, ygg_system;
GRANT USAGE ON SCHEMA identity TO ygg_network, ygg_identity, ygg_system;
GRANT USAGE ON SCHEMA jobs TO ygg_system;

-- After its first SET LOCAL an unset setting reads '' instead of NULL: nullif, or the cast would raise.
CREATE FUNCTION platform.current_network() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.network', true), '')::uuid;
CREATE FUNCTION platform.current_user_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.user', true), '')::uuid;
CREATE FUNCTION platform.current_role_name() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.role', true), '');
CREATE FUNCTION platform.current_networks() RETURNS uuid[]
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN string_to_array(nullif(current_setting('app.networks', true), ''), ',')::uuid[];
CREATE FUNCTION platform.current_job() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.job', true), '');
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA platform FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA platform TO ygg_network, ygg_identity, ygg_market, ygg_settle, ygg_system;

CREATE TABLE tenant.networks (
    network_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    currency text NOT NULL CHECK (currency = 'EUR'),
    PRIMARY KEY (network_id)
);
INSERT INTO tenant.networks (network_id, created_at, currency)
    VALUES ('00000000-0000-0000-0000-000000000001', '2026-01-01T00:00:00Z', 'EUR');
ALTER TABLE tenant.networks ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.networks FORCE ROW LEVEL SECURITY;
GRANT SELECT ON tenant.networks TO ygg_network, ygg_identity, ygg_settle, ygg_system;
GRANT INSERT ON tenant.networks TO ygg_identity;
CREATE POLICY network_reads ON tenant.networks FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY identity_reads ON tenant.networks FOR SELECT TO ygg_identity
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY identity_founds ON tenant.networks FOR INSERT TO ygg_identity
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY settle_reads ON tenant.networks FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY system_reads ON tenant.networks FOR SELECT TO ygg_system USING (true);

CREATE TABLE identity.accounts (
    user_id uuid NOT NULL,
    home_network_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'deleted')),
    epoch integer NOT NULL CHECK (epoch >= 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id)
);
ALTER TABLE identity.accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.accounts FORCE ROW LEVEL SECURITY;
GRANT SELECT ON identity.accounts TO ygg_network, ygg_identity, ygg_system;
GRANT INSERT, UPDATE ON identity.accounts TO ygg_identity;
CREATE POLICY network_reads_own ON identity.accounts FOR SELECT TO ygg_network
    USING (user_id = (SELECT platform.current_user_id()));
CREATE POLICY identity_own ON identity.accounts FOR ALL TO ygg_identity
    USING (user_id = (SELECT platform.current_user_id()))
    WITH CHECK (user_id = (SELECT platform.current_user_id()));
CREATE POLICY system_reads ON identity.accounts FOR SELECT TO ygg_system USING (true);

CREATE TABLE identity.memberships (
    network_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'guest')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, user_id)
);
CREATE INDEX memberships_by_user ON identity.memberships (user_id);
ALTER TABLE identity.memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.memberships FORCE ROW LEVEL SECURITY;
GRANT SELECT ON identity.memberships TO ygg_network, ygg_identity, ygg_system;
GRANT INSERT, UPDATE, DELETE ON identity.memberships TO ygg_identity;
CREATE POLICY network_reads ON identity.memberships FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
-- A login knows the user and not yet the network: it may read that user's memberships, and write only in a claimed network.
CREATE POLICY identity_reads_own ON identity.memberships FOR SELECT TO ygg_identity
    USING (user_id = (SELECT platform.current_user_id()));
CREATE POLICY identity_claimed ON identity.memberships FOR ALL TO ygg_identity
    USING (network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id()))
    WITH CHECK (network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id()));
CREATE POLICY system_reads ON identity.memberships FOR SELECT TO ygg_system USING (true);

-- A node is a process of the server; holds and attempts name the boot that owns them, so that a reconciler can end a dead one's.
CREATE TABLE platform.nodes (
    boot_id uuid NOT NULL,
    node_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    PRIMARY KEY (boot_id)
);
ALTER TABLE platform.nodes ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.nodes FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.nodes TO ygg_system;
CREATE POLICY system_all ON platform.nodes FOR ALL TO ygg_system USING (true) WITH CHECK (true);

CREATE TABLE jobs.audit (
    id uuid NOT NULL,
    job text NOT NULL CHECK (length(job) BETWEEN 1 AND 64),
    scope text NOT NULL CHECK (length(scope) <= 64),
    detail text NOT NULL CHECK (length(detail) <= 1000),
    at timestamptz NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX audit_by_time ON jobs.audit (at);
ALTER TABLE jobs.audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs.audit FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE ON jobs.audit TO ygg_system;
CREATE POLICY system_reads ON jobs.audit FOR SELECT TO ygg_system USING (true);
-- A job writes under its own name only, and only the retention job removes rows.
CREATE POLICY system_writes ON jobs.audit FOR INSERT TO ygg_system
    WITH CHECK (job = (SELECT platform.current_job()));
CREATE POLICY retention_deletes ON jobs.audit FOR DELETE TO ygg_system
    USING ((SELECT platform.current_job()) = 'audit-retention');
