-- Requests that wait for a free offer: PENDING in `tenant.transactions`, and here who answers for them.

CREATE TABLE platform.queued (
    network_id uuid NOT NULL,
    transaction_id uuid NOT NULL,
    node_id uuid NOT NULL,
    boot_id uuid NOT NULL,
    deadline_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, transaction_id)
);
ALTER TABLE platform.queued ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.queued FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE ON platform.queued TO ygg_settle;
GRANT SELECT ON platform.queued TO ygg_system;
CREATE POLICY queued_settle_select ON platform.queued FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY queued_settle_insert ON platform.queued FOR INSERT TO ygg_settle
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY queued_settle_delete ON platform.queued FOR DELETE TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY queued_system_select ON platform.queued FOR SELECT TO ygg_system USING (true);

-- Request parameters that an offer's backend honours; null: not declared.
ALTER TABLE tenant.offers ADD COLUMN parameters text[] CHECK (cardinality(parameters) <= 64);
