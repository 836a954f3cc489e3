-- The requester's side: what people say of the answers they paid for. The row belongs to who wrote it; which offer it was
-- about is told by the attempt alone.

CREATE TABLE tenant.feedback (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    transaction_id uuid NOT NULL,
    user_id uuid NOT NULL,
    score_ppm integer NOT NULL CHECK (score_ppm BETWEEN 0 AND 1000000),
    weight_ppm integer NOT NULL CHECK (weight_ppm BETWEEN 0 AND 1000000),
    reason text CHECK (length(reason) BETWEEN 1 AND 500),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, transaction_id)
);
CREATE INDEX feedback_by_time ON tenant.feedback (network_id, created_at);
CREATE INDEX feedback_recalled ON tenant.feedback (created_at DESC);
ALTER TABLE tenant.feedback ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.feedback FORCE ROW LEVEL SECURITY;

GRANT SELECT ON tenant.feedback TO ygg_network;
GRANT SELECT, INSERT ON tenant.feedback TO ygg_settle;
GRANT SELECT ON tenant.feedback TO ygg_system;
CREATE POLICY feedback_network_select ON tenant.feedback FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY feedback_settle_select ON tenant.feedback FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY feedback_settle_insert ON tenant.feedback FOR INSERT TO ygg_settle
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY feedback_system_select ON tenant.feedback FOR SELECT TO ygg_system USING (true);
