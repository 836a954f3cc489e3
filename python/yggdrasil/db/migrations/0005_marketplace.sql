-- The marketplace. Rows of a network lie in `tenant`; what ties the two sides of a trade together lies in `platform`
-- and is read by the ledger poster alone.

CREATE TABLE tenant.providers (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    device uuid NOT NULL,
    audience text NOT NULL CHECK (length(audience) <= 16 AND audience IN ('own', 'network', 'market')),
    status text NOT NULL CHECK (length(status) <= 16 AND status IN ('active', 'paused')),
    capacity_jobs integer NOT NULL CHECK (capacity_jobs BETWEEN 1 AND 1024),
    world text NOT NULL CHECK (length(world) <= 16),
    memory_gib integer NOT NULL CHECK (memory_gib >= 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, id),
    UNIQUE (network_id, device),
    FOREIGN KEY (network_id, device) REFERENCES tenant.devices (network_id, id) ON DELETE CASCADE
);

CREATE TABLE tenant.offers (
    network_id uuid NOT NULL,
    id uuid NOT NULL,
    provider uuid NOT NULL,
    user_id uuid NOT NULL,
    device uuid NOT NULL,
    audience text NOT NULL CHECK (length(audience) <= 16 AND audience IN ('own', 'network', 'market')),
    status text NOT NULL CHECK (length(status) <= 16 AND status IN ('active', 'paused')),
    model text NOT NULL CHECK (length(model) BETWEEN 1 AND 128),
    kind text NOT NULL CHECK (length(kind) <= 16 AND kind IN ('chat', 'embeddings')),
    price_cents bigint NOT NULL CHECK (price_cents BETWEEN 0 AND 1000000),
    price_unit_tokens integer NOT NULL CHECK (price_unit_tokens IN (1000, 1000000)),
    rounding text NOT NULL CHECK (length(rounding) <= 16 AND rounding IN ('per_request', 'per_statement')),
    context_tokens_max integer NOT NULL CHECK (context_tokens_max BETWEEN 1 AND 100000000),
    capacity_jobs integer NOT NULL CHECK (capacity_jobs BETWEEN 1 AND 1024),
    world text NOT NULL CHECK (length(world) <= 16),
    memory_gib integer NOT NULL CHECK (memory_gib >= 0),
    measured_latency_ms integer NOT NULL CHECK (measured_latency_ms >= 0),
    measured_tokens_per_second integer NOT NULL CHECK (measured_tokens_per_second >= 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, id),
    UNIQUE (network_id, provider, kind, model),
    FOREIGN KEY (network_id, provider) REFERENCES tenant.providers (network_id, id) ON DELETE CASCADE
);

CREATE TABLE tenant.transactions (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    side text NOT NULL CHECK (length(side) <= 16 AND side IN ('requester', 'provider')),
    transaction_id uuid NOT NULL,
    user_id uuid NOT NULL,
    device uuid,
    key_id uuid,
    state text NOT NULL CHECK (
        length(state) <= 16
        AND state IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED', 'REFUNDED')
    ),
    scope text NOT NULL CHECK (length(scope) <= 16 AND scope IN ('own', 'network', 'market')),
    kind text NOT NULL CHECK (length(kind) <= 16 AND kind IN ('chat', 'embeddings')),
    model text NOT NULL CHECK (length(model) BETWEEN 1 AND 128),
    price_cents bigint NOT NULL CHECK (price_cents >= 0),
    price_unit_tokens integer NOT NULL CHECK (price_unit_tokens IN (1000, 1000000)),
    rounding text NOT NULL CHECK (length(rounding) <= 16 AND rounding IN ('per_request', 'per_statement')),
    fee_basis_points integer NOT NULL CHECK (fee_basis_points BETWEEN 0 AND 1500),
    prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens bigint NOT NULL CHECK (completion_tokens >= 0),
    total_microcents bigint NOT NULL CHECK (total_microcents >= 0),
    fee_microcents bigint NOT NULL CHECK (fee_microcents >= 0),
    earnings_microcents bigint NOT NULL CHECK (earnings_microcents >= 0),
    latency_ms integer CHECK (latency_ms >= 0),
    attempts integer NOT NULL CHECK (attempts BETWEEN 0 AND 64),
    decision_card jsonb CHECK (octet_length(decision_card::text) <= 65536),
    error_code text CHECK (length(error_code) <= 64),
    idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 128),
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (network_id, side, transaction_id),
    UNIQUE (network_id, user_id, idempotency_key),
    -- What the requester pays is what the provider earns and what the platform keeps; each side's row says its own part.
    CHECK (total_microcents = fee_microcents + earnings_microcents),
    -- How a provider was chosen, and with which key, is the requester's alone.
    CHECK (side = 'requester' OR (decision_card IS NULL AND idempotency_key IS NULL AND key_id IS NULL))
);
CREATE INDEX transactions_of_user ON tenant.transactions (network_id, user_id, created_at DESC, transaction_id DESC);
CREATE INDEX transactions_open ON tenant.transactions (network_id, side, transaction_id)
    WHERE state IN ('PENDING', 'PROCESSING');

-- A paid result outlives the socket it was meant for: sealed, at most 15 minutes.
CREATE TABLE tenant.results (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    transaction_id uuid NOT NULL,
    user_id uuid NOT NULL,
    nonce bytea NOT NULL CHECK (octet_length(nonce) = 12),
    sealed bytea NOT NULL CHECK (octet_length(sealed) <= 8388608),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at <= created_at + interval '15 minutes'),
    PRIMARY KEY (network_id, transaction_id)
);
CREATE INDEX results_expiring ON tenant.results (expires_at);

CREATE TABLE platform.models (
    model text NOT NULL CHECK (length(model) BETWEEN 1 AND 128),
    kind text NOT NULL CHECK (length(kind) <= 16 AND kind IN ('chat', 'embeddings')),
    price_reference_microcents bigint NOT NULL CHECK (price_reference_microcents > 0),
    latency_reference_ms integer NOT NULL CHECK (latency_reference_ms > 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (model, kind)
);

CREATE TABLE platform.attempts (
    attempt_id uuid PRIMARY KEY,
    ordinal integer NOT NULL CHECK (ordinal BETWEEN 1 AND 64),
    requester_network uuid NOT NULL,
    requester_transaction uuid NOT NULL,
    hold_id uuid,
    provider_network uuid NOT NULL,
    provider_transaction uuid,
    provider uuid NOT NULL,
    offer uuid NOT NULL,
    device uuid NOT NULL,
    state text NOT NULL CHECK (
        length(state) <= 16
        AND state IN ('dispatched', 'accepted', 'busy', 'failed', 'completed', 'cancelled', 'lost')
    ),
    observed_tokens bigint CHECK (observed_tokens >= 0),
    claimed_tokens bigint CHECK (claimed_tokens >= 0),
    latency_ms integer CHECK (latency_ms >= 0),
    tokens_per_second integer CHECK (tokens_per_second >= 0),
    error_code text CHECK (length(error_code) <= 64),
    node_id uuid NOT NULL,
    boot_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX attempts_open ON platform.attempts (deadline_at) WHERE state IN ('dispatched', 'accepted');
CREATE INDEX attempts_of_transaction ON platform.attempts (requester_network, requester_transaction, ordinal);
CREATE INDEX attempts_ended ON platform.attempts (ended_at DESC);

ALTER TABLE tenant.providers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.providers FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.offers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.offers FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.transactions ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.transactions FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.results ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.results FORCE ROW LEVEL SECURITY;
ALTER TABLE platform.models ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.models FORCE ROW LEVEL SECURITY;
ALTER TABLE platform.attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.attempts FORCE ROW LEVEL SECURITY;

-- Providers and offers: the network reads; the person who registered changes, or an owner or admin. The router reads all
-- offers, and nothing else of any network.
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.providers TO ygg_network;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.offers TO ygg_network;
GRANT SELECT ON tenant.offers TO ygg_market;
GRANT SELECT ON tenant.providers, tenant.offers TO ygg_system;

CREATE POLICY providers_network_select ON tenant.providers FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY providers_network_insert ON tenant.providers FOR INSERT TO ygg_network
    WITH CHECK (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY providers_network_update ON tenant.providers FOR UPDATE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT current_setting('app.role', true)) IN ('owner', 'admin')
        )
    )
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY providers_network_delete ON tenant.providers FOR DELETE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT current_setting('app.role', true)) IN ('owner', 'admin')
        )
    );
CREATE POLICY providers_system_select ON tenant.providers FOR SELECT TO ygg_system USING (true);

CREATE POLICY offers_network_select ON tenant.offers FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY offers_network_insert ON tenant.offers FOR INSERT TO ygg_network
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY offers_network_update ON tenant.offers FOR UPDATE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT current_setting('app.role', true)) IN ('owner', 'admin')
        )
    )
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY offers_network_delete ON tenant.offers FOR DELETE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT current_setting('app.role', true)) IN ('owner', 'admin')
        )
    );
CREATE POLICY offers_market_select ON tenant.offers FOR SELECT TO ygg_market USING (true);
CREATE POLICY offers_system_select ON tenant.offers FOR SELECT TO ygg_system USING (true);

-- Transactions and results belong to the person, not to the network: written by the ledger poster, read by their user.
GRANT SELECT ON tenant.transactions TO ygg_network;
GRANT SELECT, INSERT, UPDATE ON tenant.transactions TO ygg_settle;
GRANT SELECT ON tenant.transactions TO ygg_system;
CREATE POLICY transactions_network_select ON tenant.transactions FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY transactions_settle_select ON tenant.transactions FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY transactions_settle_insert ON tenant.transactions FOR INSERT TO ygg_settle
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY transactions_settle_update ON tenant.transactions FOR UPDATE TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]))
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY transactions_system_select ON tenant.transactions FOR SELECT TO ygg_system USING (true);

GRANT SELECT ON tenant.results TO ygg_network;
GRANT SELECT, INSERT ON tenant.results TO ygg_settle;
GRANT SELECT, DELETE ON tenant.results TO ygg_system;
CREATE POLICY results_network_select ON tenant.results FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY results_settle_select ON tenant.results FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY results_settle_insert ON tenant.results FOR INSERT TO ygg_settle
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY results_system_select ON tenant.results FOR SELECT TO ygg_system USING (true);
CREATE POLICY results_system_delete ON tenant.results FOR DELETE TO ygg_system USING (true);

-- The reference points of a model are nobody's secret and nobody's property.
GRANT SELECT, INSERT ON platform.models TO ygg_market;
GRANT SELECT ON platform.models TO ygg_system;
CREATE POLICY models_market_select ON platform.models FOR SELECT TO ygg_market USING (true);
CREATE POLICY models_market_insert ON platform.models FOR INSERT TO ygg_market WITH CHECK (true);
CREATE POLICY models_system_select ON platform.models FOR SELECT TO ygg_system USING (true);

GRANT SELECT, INSERT, UPDATE ON platform.attempts TO ygg_settle;
GRANT SELECT ON platform.attempts TO ygg_system;
CREATE POLICY attempts_settle_select ON platform.attempts FOR SELECT TO ygg_settle
    USING (
        requester_network = ANY ((SELECT platform.current_networks())::uuid[])
        OR provider_network = ANY ((SELECT platform.current_networks())::uuid[])
    );
CREATE POLICY attempts_settle_insert ON platform.attempts FOR INSERT TO ygg_settle
    WITH CHECK (
        requester_network = ANY ((SELECT platform.current_networks())::uuid[])
        AND provider_network = ANY ((SELECT platform.current_networks())::uuid[])
    );
CREATE POLICY attempts_settle_update ON platform.attempts FOR UPDATE TO ygg_settle
    USING (
        requester_network = ANY ((SELECT platform.current_networks())::uuid[])
        AND provider_network = ANY ((SELECT platform.current_networks())::uuid[])
    )
    WITH CHECK (
        requester_network = ANY ((SELECT platform.current_networks())::uuid[])
        AND provider_network = ANY ((SELECT platform.current_networks())::uuid[])
    );
CREATE POLICY attempts_system_select ON platform.attempts FOR SELECT TO ygg_system USING (true);
