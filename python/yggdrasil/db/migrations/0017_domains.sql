-- What one column of the money path must obey is said by its type. PostgreSQL reads a table's CHECKs anew, from their
-- text, in every statement that writes to it: a quarter of what a request cost the database. A domain's it reads once
-- a session, and an update obeys those of the columns it changes. What ties several columns together stays a CHECK.

CREATE DOMAIN platform.microcents AS bigint CHECK (VALUE >= 0);
CREATE DOMAIN platform.microcents_held AS bigint CHECK (VALUE > 0);
CREATE DOMAIN platform.microcents_moved AS bigint CHECK (VALUE <> 0);
CREATE DOMAIN platform.currency AS text CHECK (VALUE IN ('EUR'));
CREATE DOMAIN platform.balance_account AS text CHECK (VALUE IN ('wallet', 'earnings'));
CREATE DOMAIN platform.entry_account AS text
    CHECK (VALUE IN ('wallet', 'earnings', 'clearing', 'fee', 'gateway', 'rounding'));
CREATE DOMAIN platform.entry_kind AS text CHECK (VALUE IN ('topup', 'settlement'));
CREATE DOMAIN platform.entry_leg AS smallint CHECK (VALUE BETWEEN 0 AND 15);
CREATE DOMAIN platform.hold_state AS text CHECK (VALUE IN ('pending', 'posted', 'voided', 'expired'));
CREATE DOMAIN platform.spend_month AS text CHECK (length(VALUE) = 7);
CREATE DOMAIN platform.spend_period AS text
    CHECK (length(VALUE) <= 7 AND (VALUE = 'total' OR VALUE ~ '^[0-9]{4}-[0-9]{2}$'));

CREATE DOMAIN platform.side AS text CHECK (VALUE IN ('requester', 'provider'));
CREATE DOMAIN platform.transaction_state AS text
    CHECK (VALUE IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED', 'REFUNDED'));
CREATE DOMAIN platform.attempt_state AS text
    CHECK (VALUE IN ('dispatched', 'accepted', 'busy', 'failed', 'completed', 'cancelled', 'lost'));
CREATE DOMAIN platform.market_scope AS text CHECK (VALUE IN ('own', 'network', 'market'));
CREATE DOMAIN platform.request_kind AS text CHECK (VALUE IN ('chat', 'embeddings'));
CREATE DOMAIN platform.model_name AS text CHECK (length(VALUE) BETWEEN 1 AND 128);
CREATE DOMAIN platform.price_cents AS bigint CHECK (VALUE >= 0);
CREATE DOMAIN platform.price_unit_tokens AS integer CHECK (VALUE IN (1000, 1000000));
CREATE DOMAIN platform.price_rounding AS text CHECK (VALUE IN ('per_request', 'per_statement'));
CREATE DOMAIN platform.fee_basis_points AS integer CHECK (VALUE BETWEEN 0 AND 1500);
CREATE DOMAIN platform.tokens AS bigint CHECK (VALUE >= 0);
CREATE DOMAIN platform.latency_ms AS integer CHECK (VALUE >= 0);
CREATE DOMAIN platform.tokens_per_second AS integer CHECK (VALUE >= 0);
CREATE DOMAIN platform.quality_ppm AS integer CHECK (VALUE BETWEEN 0 AND 1000000);
CREATE DOMAIN platform.attempt_count AS integer CHECK (VALUE BETWEEN 0 AND 64);
CREATE DOMAIN platform.attempt_ordinal AS integer CHECK (VALUE BETWEEN 1 AND 64);
CREATE DOMAIN platform.decision_card AS jsonb CHECK (pg_column_size(VALUE) <= 65536);
CREATE DOMAIN platform.error_code AS text CHECK (length(VALUE) <= 64);
CREATE DOMAIN platform.verdict AS text CHECK (length(VALUE) BETWEEN 1 AND 128);
CREATE DOMAIN platform.idempotency_key AS text CHECK (length(VALUE) BETWEEN 1 AND 128);
CREATE DOMAIN platform.result_nonce AS bytea CHECK (octet_length(VALUE) = 12);
CREATE DOMAIN platform.sealed_result AS bytea CHECK (octet_length(VALUE) <= 8388608);

ALTER TABLE tenant.balances
    DROP CONSTRAINT balances_account_check, ALTER account TYPE platform.balance_account,
    DROP CONSTRAINT balances_posted_microcents_check, ALTER posted_microcents TYPE platform.microcents,
    DROP CONSTRAINT balances_held_microcents_check, ALTER held_microcents TYPE platform.microcents,
    DROP CONSTRAINT balances_currency_check, ALTER currency TYPE platform.currency;

ALTER TABLE tenant.entries
    DROP CONSTRAINT entries_leg_check, ALTER leg TYPE platform.entry_leg,
    DROP CONSTRAINT entries_account_check, ALTER account TYPE platform.entry_account,
    DROP CONSTRAINT entries_amount_microcents_check, ALTER amount_microcents TYPE platform.microcents_moved,
    DROP CONSTRAINT entries_currency_check, ALTER currency TYPE platform.currency,
    DROP CONSTRAINT entries_kind_check, ALTER kind TYPE platform.entry_kind;

-- Policies that name a column stand in the way of its type, and come back as they were.
DROP POLICY settle_insert ON tenant.holds;
DROP POLICY settle_update ON tenant.holds;
ALTER TABLE tenant.holds
    DROP CONSTRAINT holds_amount_microcents_check, ALTER amount_microcents TYPE platform.microcents_held,
    DROP CONSTRAINT holds_currency_check, ALTER currency TYPE platform.currency,
    DROP CONSTRAINT holds_state_check, ALTER state TYPE platform.hold_state,
    DROP CONSTRAINT holds_key_month_check, ALTER key_month TYPE platform.spend_month;
CREATE POLICY settle_insert ON tenant.holds FOR INSERT TO ygg_settle
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]) AND state = 'pending');
CREATE POLICY settle_update ON tenant.holds FOR UPDATE TO ygg_settle
    USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]) AND state = 'pending')
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]) AND state <> 'pending');

ALTER TABLE tenant.key_spend
    DROP CONSTRAINT key_spend_period_check, ALTER period TYPE platform.spend_period,
    DROP CONSTRAINT key_spend_limit_microcents_check, ALTER limit_microcents TYPE platform.microcents,
    DROP CONSTRAINT key_spend_held_microcents_check, ALTER held_microcents TYPE platform.microcents,
    DROP CONSTRAINT key_spend_spent_microcents_check, ALTER spent_microcents TYPE platform.microcents;

ALTER TABLE tenant.transactions
    DROP CONSTRAINT transactions_side_check, ALTER side TYPE platform.side,
    DROP CONSTRAINT transactions_state_check, ALTER state TYPE platform.transaction_state,
    DROP CONSTRAINT transactions_scope_check, ALTER scope TYPE platform.market_scope,
    DROP CONSTRAINT transactions_kind_check, ALTER kind TYPE platform.request_kind,
    DROP CONSTRAINT transactions_model_check, ALTER model TYPE platform.model_name,
    DROP CONSTRAINT transactions_price_cents_check, ALTER price_cents TYPE platform.price_cents,
    DROP CONSTRAINT transactions_price_unit_tokens_check, ALTER price_unit_tokens TYPE platform.price_unit_tokens,
    DROP CONSTRAINT transactions_rounding_check, ALTER rounding TYPE platform.price_rounding,
    DROP CONSTRAINT transactions_fee_basis_points_check, ALTER fee_basis_points TYPE platform.fee_basis_points,
    DROP CONSTRAINT transactions_prompt_tokens_check, ALTER prompt_tokens TYPE platform.tokens,
    DROP CONSTRAINT transactions_completion_tokens_check, ALTER completion_tokens TYPE platform.tokens,
    DROP CONSTRAINT transactions_total_microcents_check, ALTER total_microcents TYPE platform.microcents,
    DROP CONSTRAINT transactions_fee_microcents_check, ALTER fee_microcents TYPE platform.microcents,
    DROP CONSTRAINT transactions_earnings_microcents_check, ALTER earnings_microcents TYPE platform.microcents,
    DROP CONSTRAINT transactions_latency_ms_check, ALTER latency_ms TYPE platform.latency_ms,
    DROP CONSTRAINT transactions_attempts_check, ALTER attempts TYPE platform.attempt_count,
    DROP CONSTRAINT transactions_decision_card_check, ALTER decision_card TYPE platform.decision_card,
    DROP CONSTRAINT transactions_error_code_check, ALTER error_code TYPE platform.error_code,
    DROP CONSTRAINT transactions_quality_ppm_check, ALTER quality_ppm TYPE platform.quality_ppm,
    DROP CONSTRAINT transactions_idempotency_key_check, ALTER idempotency_key TYPE platform.idempotency_key;

ALTER TABLE tenant.results
    DROP CONSTRAINT results_nonce_check, ALTER nonce TYPE platform.result_nonce,
    DROP CONSTRAINT results_sealed_check, ALTER sealed TYPE platform.sealed_result;

ALTER TABLE platform.attempts
    DROP CONSTRAINT attempts_ordinal_check, ALTER ordinal TYPE platform.attempt_ordinal,
    DROP CONSTRAINT attempts_state_check, ALTER state TYPE platform.attempt_state,
    DROP CONSTRAINT attempts_observed_tokens_check, ALTER observed_tokens TYPE platform.tokens,
    DROP CONSTRAINT attempts_claimed_tokens_check, ALTER claimed_tokens TYPE platform.tokens,
    DROP CONSTRAINT attempts_latency_ms_check, ALTER latency_ms TYPE platform.latency_ms,
    DROP CONSTRAINT attempts_tokens_per_second_check, ALTER tokens_per_second TYPE platform.tokens_per_second,
    DROP CONSTRAINT attempts_error_code_check, ALTER error_code TYPE platform.error_code,
    DROP CONSTRAINT attempts_quality_ppm_check, ALTER quality_ppm TYPE platform.quality_ppm,
    DROP CONSTRAINT attempts_verdict_check, ALTER verdict TYPE platform.verdict;
