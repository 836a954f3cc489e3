-- What was done over a border or to a permission, as a chain of hashes for each network; the platform's is its network's.
-- Whoever does the thing writes the event in the same transaction, on a row of its own: nobody waits for anybody. One job
-- links events to their chain afterwards and signs where it ends. Nothing here can be changed or deleted by any scope, but
-- for the list of what is not linked yet. The key's last column, not a sequence, is what makes a fork impossible.

CREATE TABLE tenant.audit_events (
    network_id uuid NOT NULL,
    event_id uuid NOT NULL,
    kind text NOT NULL CHECK (length(kind) <= 40 AND kind ~ '^[a-z_]+\.[a-z_]+$'),
    actor_kind text NOT NULL CHECK (actor_kind IN ('user', 'key', 'operator', 'console', 'system')),
    actor_id uuid,
    user_id uuid,
    subject_kind text NOT NULL CHECK (length(subject_kind) <= 32 AND subject_kind ~ '^[a-z_]+$'),
    subject_id uuid,
    detail text NOT NULL CHECK (length(detail) BETWEEN 2 AND 2000),
    at timestamptz NOT NULL,
    PRIMARY KEY (network_id, event_id),
    CHECK ((actor_kind IN ('console', 'system')) = (actor_id IS NULL))
);
CREATE INDEX audit_events_of_kind ON tenant.audit_events (network_id, kind, at);

-- Which events are in no chain yet. A row that is lost here does not hide its event: it then is in no chain and not waiting.
CREATE TABLE tenant.audit_pending (
    network_id uuid NOT NULL,
    event_id uuid NOT NULL,
    PRIMARY KEY (network_id, event_id)
);

-- `format` says which columns of event and link `hash` covers (yggdrasil.audit.chain): all there were, but itself.
CREATE TABLE tenant.audit_links (
    network_id uuid NOT NULL,
    number bigint NOT NULL CHECK (number >= 1),
    event_id uuid NOT NULL,
    format smallint NOT NULL CHECK (format >= 1),
    previous_hash bytea NOT NULL CHECK (length(previous_hash) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (network_id, number),
    UNIQUE (network_id, event_id)
);

CREATE TABLE tenant.audit_heads (
    network_id uuid NOT NULL,
    number bigint NOT NULL CHECK (number >= 1),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    at timestamptz NOT NULL,
    key_id text NOT NULL CHECK (length(key_id) BETWEEN 1 AND 16),
    signature bytea NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (network_id, number)
);
CREATE INDEX audit_heads_by_time ON tenant.audit_heads (at);

ALTER TABLE tenant.audit_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.audit_events FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.audit_pending ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.audit_pending FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.audit_links ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.audit_links FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.audit_heads FORCE ROW LEVEL SECURITY;

GRANT INSERT ON tenant.audit_events, tenant.audit_pending TO ygg_network, ygg_identity, ygg_system;
GRANT SELECT ON tenant.audit_events, tenant.audit_links, tenant.audit_heads TO ygg_network;
GRANT SELECT ON tenant.audit_events, tenant.audit_pending, tenant.audit_links, tenant.audit_heads TO ygg_system;
GRANT INSERT ON tenant.audit_links, tenant.audit_heads TO ygg_system;
GRANT DELETE ON tenant.audit_pending TO ygg_system;

CREATE POLICY network_records ON tenant.audit_events FOR INSERT TO ygg_network
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY network_records ON tenant.audit_pending FOR INSERT TO ygg_network
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY identity_records ON tenant.audit_events FOR INSERT TO ygg_identity
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY identity_records ON tenant.audit_pending FOR INSERT TO ygg_identity
    WITH CHECK (network_id = (SELECT platform.current_network()));
-- The jobs that do what is audited; another one that does adds itself here.
CREATE POLICY system_records ON tenant.audit_events FOR INSERT TO ygg_system
    WITH CHECK ((SELECT platform.current_job()) IN ('audit-chain', 'explain', 'operator', 'operators'));
CREATE POLICY system_records ON tenant.audit_pending FOR INSERT TO ygg_system
    WITH CHECK ((SELECT platform.current_job()) IN ('audit-chain', 'explain', 'operator', 'operators'));

-- The network's own: for those who answer for it.
CREATE POLICY network_reads ON tenant.audit_events FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );
CREATE POLICY network_reads ON tenant.audit_links FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );
CREATE POLICY network_reads ON tenant.audit_heads FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );

CREATE POLICY system_reads ON tenant.audit_events FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON tenant.audit_pending FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON tenant.audit_links FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_reads ON tenant.audit_heads FOR SELECT TO ygg_system USING (true);
CREATE POLICY chain_links ON tenant.audit_links FOR INSERT TO ygg_system
    WITH CHECK ((SELECT platform.current_job()) = 'audit-chain');
CREATE POLICY chain_signs ON tenant.audit_heads FOR INSERT TO ygg_system
    WITH CHECK ((SELECT platform.current_job()) = 'audit-chain');
CREATE POLICY chain_takes ON tenant.audit_pending FOR DELETE TO ygg_system
    USING ((SELECT platform.current_job()) = 'audit-chain');
