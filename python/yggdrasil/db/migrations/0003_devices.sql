-- Devices: what a person owns in a network. The id the person assigned is unique inside the network only.
CREATE TABLE tenant.devices (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    id uuid NOT NULL,
    device_id text NOT NULL CHECK (length(device_id) <= 64 AND device_id ~ '^[A-Za-z0-9._-]+$'),
    user_id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) <= 100),
    world text NOT NULL CHECK (length(world) <= 16 AND world IN ('midgard', 'asgard', 'alfheim', 'jotnar')),
    capabilities jsonb NOT NULL CHECK (octet_length(capabilities::text) <= 16384),
    hardware jsonb NOT NULL CHECK (octet_length(hardware::text) <= 16384),
    device_key bytea NOT NULL CHECK (octet_length(device_key) = 32),
    registered_at timestamptz NOT NULL,
    last_seen_at timestamptz,
    PRIMARY KEY (network_id, id),
    UNIQUE (network_id, device_id)
);
CREATE INDEX devices_of_user ON tenant.devices (network_id, user_id);

ALTER TABLE tenant.devices ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.devices FORCE ROW LEVEL SECURITY;

GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.devices TO ygg_network;
GRANT SELECT ON tenant.devices TO ygg_system;

-- Every member of the network may read; the owner of the device, or an owner or admin of the network, may change.
CREATE POLICY devices_network_select ON tenant.devices FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY devices_network_insert ON tenant.devices FOR INSERT TO ygg_network
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY devices_network_update ON tenant.devices FOR UPDATE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT current_setting('app.role', true)) IN ('owner', 'admin')
        )
    )
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY devices_network_delete ON tenant.devices FOR DELETE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT current_setting('app.role', true)) IN ('owner', 'admin')
        )
    );
CREATE POLICY devices_system_select ON tenant.devices FOR SELECT TO ygg_system USING (true);
