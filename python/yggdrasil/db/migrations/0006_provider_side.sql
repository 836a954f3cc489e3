-- The provider's side: when a device takes work, how much of each model, why it got none, and what was decided about it.

ALTER TABLE tenant.providers DROP CONSTRAINT providers_status_check;
ALTER TABLE tenant.providers ADD CONSTRAINT providers_status_check
    CHECK (length(status) <= 16 AND status IN ('active', 'draining', 'paused'));
ALTER TABLE tenant.offers DROP CONSTRAINT offers_status_check;
ALTER TABLE tenant.offers ADD CONSTRAINT offers_status_check
    CHECK (length(status) <= 16 AND status IN ('active', 'draining', 'paused'));

-- The hours of a device, in the local time of a zone; null: always. Offers carry them too, for the router reads offers only.
ALTER TABLE tenant.providers ADD COLUMN hours jsonb CHECK (octet_length(hours::text) <= 8192);
ALTER TABLE tenant.providers ADD COLUMN zone text NOT NULL DEFAULT 'UTC' CHECK (length(zone) BETWEEN 1 AND 64);
ALTER TABLE tenant.providers ALTER COLUMN zone DROP DEFAULT;
ALTER TABLE tenant.offers ADD COLUMN hours jsonb CHECK (octet_length(hours::text) <= 8192);
ALTER TABLE tenant.offers ADD COLUMN zone text NOT NULL DEFAULT 'UTC' CHECK (length(zone) BETWEEN 1 AND 64);
ALTER TABLE tenant.offers ALTER COLUMN zone DROP DEFAULT;

-- `capacity_jobs` of an offer is its device's, shared by all offers of the device; this is the model's own; null: the same.
ALTER TABLE tenant.offers ADD COLUMN model_capacity_jobs integer CHECK (model_capacity_jobs BETWEEN 1 AND 1024);
ALTER TABLE tenant.offers ADD COLUMN output_tokens_max integer CHECK (output_tokens_max BETWEEN 1 AND 100000000);

-- Counts by finished hour: what a provider was asked for, what it got, and why not the rest.
CREATE TABLE tenant.provider_work (
    network_id uuid NOT NULL,
    provider uuid NOT NULL,
    hour timestamptz NOT NULL,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 32),
    requests bigint NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (network_id, provider, hour, reason),
    FOREIGN KEY (network_id, provider) REFERENCES tenant.providers (network_id, id) ON DELETE CASCADE
);
CREATE INDEX provider_work_by_hour ON tenant.provider_work (hour);
ALTER TABLE tenant.provider_work ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.provider_work FORCE ROW LEVEL SECURITY;

GRANT SELECT ON tenant.provider_work TO ygg_network;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.provider_work TO ygg_system;
CREATE POLICY provider_work_network_select ON tenant.provider_work FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY provider_work_system_select ON tenant.provider_work FOR SELECT TO ygg_system USING (true);
CREATE POLICY provider_work_system_insert ON tenant.provider_work FOR INSERT TO ygg_system WITH CHECK (true);
CREATE POLICY provider_work_system_update ON tenant.provider_work FOR UPDATE TO ygg_system
    USING (true) WITH CHECK (true);
CREATE POLICY provider_work_system_delete ON tenant.provider_work FOR DELETE TO ygg_system USING (true);

-- The reference points follow the market.
GRANT UPDATE ON platform.models TO ygg_market;
CREATE POLICY models_market_update ON platform.models FOR UPDATE TO ygg_market USING (true) WITH CHECK (true);

-- What was decided on a registration, and from which facts. An appeal is another decision, from a new test.
CREATE TABLE tenant.registrations (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    device_id text NOT NULL CHECK (length(device_id) BETWEEN 1 AND 64),
    verdict text NOT NULL CHECK (length(verdict) <= 16 AND verdict IN ('accepted', 'refused')),
    reasons jsonb NOT NULL CHECK (octet_length(reasons::text) <= 16384),
    facts jsonb NOT NULL CHECK (octet_length(facts::text) <= 65536),
    asked jsonb NOT NULL CHECK (octet_length(asked::text) <= 65536),
    appeal_of uuid,
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, id),
    FOREIGN KEY (network_id, appeal_of) REFERENCES tenant.registrations (network_id, id) ON DELETE CASCADE
);
CREATE INDEX registrations_of_user ON tenant.registrations (network_id, user_id, decided_at DESC, id DESC);
CREATE INDEX registrations_appeals ON tenant.registrations (network_id, appeal_of);
ALTER TABLE tenant.registrations ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.registrations FORCE ROW LEVEL SECURITY;

GRANT SELECT, INSERT ON tenant.registrations TO ygg_network;
GRANT SELECT ON tenant.registrations TO ygg_system;
CREATE POLICY registrations_network_select ON tenant.registrations FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY registrations_network_insert ON tenant.registrations FOR INSERT TO ygg_network
    WITH CHECK (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY registrations_system_select ON tenant.registrations FOR SELECT TO ygg_system USING (true);
