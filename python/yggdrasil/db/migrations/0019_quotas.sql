-- Which tier a network is of, when it is not the server's default. Operators assign it; every node reads all of them.

CREATE TABLE tenant.tiers (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    tier text NOT NULL CHECK (length(tier) <= 16 AND tier IN ('free', 'pay_per_token', 'premium', 'pro', 'enterprise')),
    assigned_at timestamptz NOT NULL,
    PRIMARY KEY (network_id)
);
ALTER TABLE tenant.tiers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.tiers FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE ON tenant.tiers TO ygg_system;
CREATE POLICY system_reads ON tenant.tiers FOR SELECT TO ygg_system USING (true);
CREATE POLICY operator_assigns ON tenant.tiers FOR INSERT TO ygg_system
    WITH CHECK ((SELECT platform.current_job()) = 'operator');
CREATE POLICY operator_changes ON tenant.tiers FOR UPDATE TO ygg_system
    USING ((SELECT platform.current_job()) = 'operator') WITH CHECK ((SELECT platform.current_job()) = 'operator');
