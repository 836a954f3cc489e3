-- What the market learnt outlives a restart and a device's new registration; and an account ends with nothing in its wallet.

-- A device by its key: 16 bytes of a digest over the network and the public key, the same for every registration of that key
-- in that network. `devices.model.group_of` makes it. Row security is forced on the owner too: lifted for these rows alone,
-- inside this migration's transaction.
ALTER TABLE tenant.offers ADD COLUMN device_group bytea CHECK (octet_length(device_group) = 16);
ALTER TABLE tenant.offers NO FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.devices NO FORCE ROW LEVEL SECURITY;
UPDATE tenant.offers o
SET device_group = substring(
    sha256('\x79676764726173696c2e7631206465766963652067726f757000'::bytea || uuid_send(d.network_id) || d.device_key)
    FROM 1 FOR 16
)
FROM tenant.devices d
WHERE d.network_id = o.network_id AND d.id = o.device;
ALTER TABLE tenant.devices FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.offers FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.offers ALTER COLUMN device_group SET NOT NULL;

-- What was judged of an answer, and which marks lowered it; of a failure, whether it broke off in mid-answer.
ALTER TABLE platform.attempts ADD COLUMN quality_ppm integer CHECK (quality_ppm BETWEEN 0 AND 1000000);
ALTER TABLE platform.attempts ADD COLUMN verdict text CHECK (length(verdict) BETWEEN 1 AND 128);
CREATE INDEX attempts_broken_off ON platform.attempts (ended_at DESC) WHERE verdict = 'broke_off';

-- Both sides of a trade may know what was judged of it.
ALTER TABLE tenant.transactions ADD COLUMN quality_ppm integer CHECK (quality_ppm BETWEEN 0 AND 1000000);

-- How canary jobs ended. Nobody pays for them, so no attempt says it.
CREATE TABLE platform.canaries (
    canary_id uuid PRIMARY KEY,
    network_id uuid NOT NULL,
    offer uuid NOT NULL,
    state text NOT NULL CHECK (length(state) <= 16 AND state IN ('completed', 'failed')),
    observed_tokens bigint NOT NULL CHECK (observed_tokens >= 0),
    claimed_tokens bigint CHECK (claimed_tokens >= 0),
    quality_ppm integer NOT NULL CHECK (quality_ppm BETWEEN 0 AND 1000000),
    latency_ms integer CHECK (latency_ms >= 0),
    tokens_per_second integer CHECK (tokens_per_second >= 0),
    error_code text CHECK (length(error_code) <= 64),
    ended_at timestamptz NOT NULL
);
CREATE INDEX canaries_ended ON platform.canaries (ended_at DESC);
ALTER TABLE platform.canaries ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.canaries FORCE ROW LEVEL SECURITY;
GRANT INSERT ON platform.canaries TO ygg_market;
GRANT SELECT, DELETE ON platform.canaries TO ygg_system;
CREATE POLICY canaries_market_insert ON platform.canaries FOR INSERT TO ygg_market WITH CHECK (true);
CREATE POLICY canaries_system_select ON platform.canaries FOR SELECT TO ygg_system USING (true);
CREATE POLICY canaries_system_delete ON platform.canaries FOR DELETE TO ygg_system
    USING ((SELECT platform.current_job()) = 'reconciler');

-- A network ends with its founder's account. Whoever deletes that closes the network first: top-ups wait for a closing that
-- runs, it waits for them, and for some minutes none begins. So nothing is put into the wallet of nobody.
ALTER TABLE tenant.networks ADD COLUMN closed_at timestamptz;
GRANT UPDATE (closed_at) ON tenant.networks TO ygg_network;
CREATE POLICY owner_closes ON tenant.networks FOR UPDATE TO ygg_network
    USING (network_id = (SELECT platform.current_network()) AND (SELECT platform.current_role_name()) = 'owner')
    WITH CHECK (network_id = (SELECT platform.current_network()) AND (SELECT platform.current_role_name()) = 'owner');
