-- Money. Double entry: every transfer sums to zero inside each network it touches, through that network's `clearing`
-- account. Entries are only ever added. Balances, holds, entries and top-ups name no foreign key to the network: the
-- books outlive whoever they are about.

-- The accounts with a lower limit, and the only rows of money that are ever updated.
CREATE TABLE tenant.balances (
    network_id uuid NOT NULL,
    account text NOT NULL CHECK (length(account) <= 16 AND account IN ('wallet', 'earnings')),
    posted_microcents bigint NOT NULL CHECK (posted_microcents >= 0),
    held_microcents bigint NOT NULL CHECK (held_microcents >= 0),
    currency text NOT NULL CHECK (length(currency) = 3 AND currency = 'EUR'),
    PRIMARY KEY (network_id, account),
    CHECK (posted_microcents - held_microcents >= 0),
    CHECK (account = 'wallet' OR held_microcents = 0)
) WITH (fillfactor = 70);

CREATE TABLE tenant.entries (
    network_id uuid NOT NULL,
    transfer_id uuid NOT NULL,
    leg smallint NOT NULL CHECK (leg BETWEEN 0 AND 15),
    account text NOT NULL CHECK (
        length(account) <= 16 AND account IN ('wallet', 'earnings', 'clearing', 'fee', 'gateway', 'rounding')
    ),
    amount_microcents bigint NOT NULL CHECK (amount_microcents <> 0),
    currency text NOT NULL CHECK (length(currency) = 3 AND currency = 'EUR'),
    kind text NOT NULL CHECK (length(kind) <= 16 AND kind IN ('topup', 'settlement')),
    at timestamptz NOT NULL,
    PRIMARY KEY (network_id, transfer_id, leg)
);

-- A reservation in the wallet, with an owner, a deadline and exactly one end.
CREATE TABLE tenant.holds (
    network_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    transaction_id uuid NOT NULL,
    amount_microcents bigint NOT NULL CHECK (amount_microcents > 0),
    currency text NOT NULL CHECK (length(currency) = 3 AND currency = 'EUR'),
    state text NOT NULL CHECK (length(state) <= 16 AND state IN ('pending', 'posted', 'voided', 'expired')),
    owner_node uuid NOT NULL,
    owner_boot uuid NOT NULL,
    deadline_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    transfer_id uuid,
    PRIMARY KEY (network_id, hold_id),
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK ((state = 'posted') = (transfer_id IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX holds_pending ON tenant.holds (deadline_at) WHERE state = 'pending';

-- How a network pays and is paid. `gateway_token` is the provider's opaque name for it; numbers of cards and accounts
-- never come here.
CREATE TABLE tenant.payment_methods (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    method_id uuid NOT NULL,
    user_id uuid NOT NULL,
    gateway text NOT NULL CHECK (length(gateway) BETWEEN 1 AND 32),
    gateway_token text NOT NULL CHECK (length(gateway_token) BETWEEN 1 AND 255),
    kind text NOT NULL CHECK (length(kind) <= 16 AND kind IN ('card', 'sepa', 'paypal', 'sandbox')),
    purpose text NOT NULL CHECK (length(purpose) <= 16 AND purpose IN ('spend', 'payout', 'both')),
    state text NOT NULL CHECK (length(state) <= 16 AND state IN ('unverified', 'pending', 'verified', 'removed')),
    tries integer NOT NULL CHECK (tries BETWEEN 0 AND 5),
    is_default boolean NOT NULL,
    label text NOT NULL CHECK (length(label) <= 64),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, method_id),
    CHECK (kind <> 'card' OR purpose = 'spend'),
    CHECK (state <> 'removed' OR NOT is_default)
);
CREATE UNIQUE INDEX payment_methods_one_default ON tenant.payment_methods (network_id) WHERE is_default;

-- Top-ups. `created`: nothing was asked of the gateway yet. `charging`: it may have been. `unknown`: it was, and no
-- answer came. A row leaves these states once, to `succeeded` (with its entries, in one transaction) or `failed`; only
-- `failed` because the gateway never heard of it (`not_charged`) gives way to the gateway's later word that it did.
CREATE TABLE tenant.payments (
    network_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    method_id uuid NOT NULL,
    user_id uuid NOT NULL,
    amount_microcents bigint NOT NULL CHECK (amount_microcents > 0 AND amount_microcents % 1000000 = 0),
    currency text NOT NULL CHECK (length(currency) = 3 AND currency = 'EUR'),
    state text NOT NULL CHECK (
        length(state) <= 16 AND state IN ('created', 'charging', 'succeeded', 'failed', 'unknown')
    ),
    gateway text NOT NULL CHECK (length(gateway) BETWEEN 1 AND 32),
    gateway_ref text CHECK (length(gateway_ref) <= 255),
    failure_code text CHECK (length(failure_code) <= 64),
    idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    asked_count integer NOT NULL CHECK (asked_count >= 0),
    ask_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, payment_id),
    UNIQUE (network_id, idempotency_key),
    CHECK (state <> 'succeeded' OR gateway_ref IS NOT NULL),
    CHECK ((state = 'failed') = (failure_code IS NOT NULL))
);
CREATE INDEX payments_open ON tenant.payments (ask_at) WHERE state IN ('created', 'charging', 'unknown');

-- The sandbox gateway's own memory: it stands in for a payment provider, which remembers what it was asked.
CREATE TABLE platform.sandbox_charges (
    idempotency_key uuid PRIMARY KEY,
    token text NOT NULL CHECK (length(token) <= 255),
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    currency text NOT NULL CHECK (length(currency) = 3),
    state text NOT NULL CHECK (length(state) <= 16 AND state IN ('succeeded', 'failed')),
    gateway_ref text NOT NULL CHECK (length(gateway_ref) <= 255),
    failure_code text CHECK (length(failure_code) <= 64),
    visible_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL
);

ALTER TABLE tenant.balances ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.balances FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.entries FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.holds ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.holds FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.payment_methods ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.payment_methods FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.payments ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.payments FORCE ROW LEVEL SECURITY;
ALTER TABLE platform.sandbox_charges ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.sandbox_charges FORCE ROW LEVEL SECURITY;

-- Balances: the poster moves them, everybody else reads.
GRANT SELECT, INSERT ON tenant.balances TO ygg_settle;
GRANT UPDATE (posted_microcents, held_microcents) ON tenant.balances TO ygg_settle;
GRANT SELECT ON tenant.balances TO ygg_network, ygg_system;
CREATE POLICY settle_all ON tenant.balances FOR ALL TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]))
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY network_select ON tenant.balances FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY system_select ON tenant.balances FOR SELECT TO ygg_system USING (true);

-- Entries: added, read, and nothing else.
GRANT SELECT, INSERT ON tenant.entries TO ygg_settle;
GRANT SELECT ON tenant.entries TO ygg_network, ygg_system;
CREATE POLICY settle_select ON tenant.entries FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY settle_insert ON tenant.entries FOR INSERT TO ygg_settle
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY network_select ON tenant.entries FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY system_select ON tenant.entries FOR SELECT TO ygg_system USING (true);

-- Holds: the update policy is the law that a hold ends once.
GRANT SELECT, INSERT ON tenant.holds TO ygg_settle;
GRANT UPDATE (state, ended_at, transfer_id) ON tenant.holds TO ygg_settle;
GRANT SELECT ON tenant.holds TO ygg_network, ygg_system;
CREATE POLICY settle_select ON tenant.holds FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY settle_insert ON tenant.holds FOR INSERT TO ygg_settle
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]) AND state = 'pending');
CREATE POLICY settle_update ON tenant.holds FOR UPDATE TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]) AND state = 'pending')
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]) AND state <> 'pending');
CREATE POLICY network_select ON tenant.holds FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY system_select ON tenant.holds FOR SELECT TO ygg_system USING (true);

-- Methods: the network's own; the poster asks whether there is one and never sees its token, nor do jobs.
GRANT SELECT, INSERT ON tenant.payment_methods TO ygg_network;
GRANT UPDATE (state, tries, is_default, updated_at) ON tenant.payment_methods TO ygg_network;
GRANT SELECT (network_id, method_id, gateway, kind, purpose, state) ON tenant.payment_methods TO ygg_settle;
GRANT SELECT (network_id, method_id, user_id, gateway, kind, purpose, state, is_default, created_at, updated_at)
    ON tenant.payment_methods TO ygg_system;
CREATE POLICY network_select ON tenant.payment_methods FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY network_insert ON tenant.payment_methods FOR INSERT TO ygg_network
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
        AND state = 'unverified'
    );
CREATE POLICY network_update ON tenant.payment_methods FOR UPDATE TO ygg_network
    USING (network_id = (SELECT platform.current_network()) AND state <> 'removed')
    WITH CHECK (network_id = (SELECT platform.current_network()));
CREATE POLICY settle_select ON tenant.payment_methods FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY system_select ON tenant.payment_methods FOR SELECT TO ygg_system USING (true);

-- Top-ups: the network may start one; only the poster may end one.
GRANT SELECT, INSERT ON tenant.payments TO ygg_network;
GRANT UPDATE (state, ask_at, updated_at) ON tenant.payments TO ygg_network;
GRANT SELECT ON tenant.payments TO ygg_settle, ygg_system;
GRANT UPDATE (state, gateway_ref, failure_code, asked_count, ask_at, updated_at) ON tenant.payments TO ygg_settle;
CREATE POLICY network_select ON tenant.payments FOR SELECT TO ygg_network
    USING (network_id = (SELECT platform.current_network()));
CREATE POLICY network_insert ON tenant.payments FOR INSERT TO ygg_network
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
        AND state = 'created'
    );
CREATE POLICY network_update ON tenant.payments FOR UPDATE TO ygg_network
    USING (network_id = (SELECT platform.current_network()) AND state = 'created')
    WITH CHECK (network_id = (SELECT platform.current_network()) AND state = 'charging');
CREATE POLICY settle_select ON tenant.payments FOR SELECT TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY settle_update ON tenant.payments FOR UPDATE TO ygg_settle
    USING (
        network_id = ANY ((SELECT platform.current_networks())::uuid[])
        AND (state IN ('created', 'charging', 'unknown') OR (state = 'failed' AND failure_code = 'not_charged'))
    )
    WITH CHECK (
        network_id = ANY ((SELECT platform.current_networks())::uuid[]) AND state IN ('succeeded', 'failed', 'unknown')
    );
CREATE POLICY system_select ON tenant.payments FOR SELECT TO ygg_system USING (true);

-- The sandbox writes under its own job name only.
GRANT SELECT, INSERT ON platform.sandbox_charges TO ygg_system;
CREATE POLICY system_select ON platform.sandbox_charges FOR SELECT TO ygg_system USING (true);
CREATE POLICY sandbox_insert ON platform.sandbox_charges FOR INSERT TO ygg_system
    WITH CHECK ((SELECT platform.current_job()) = 'sandbox-gateway');
