-- The money path in batches: a batch of admissions, or of endings, is one call and one commit. Every item names the at
-- most three networks it is about, and its statements run under the row security of those alone. The functions run as
-- their caller and are the poster's only. Callers give attempts by id, and admissions by (network, user, idempotency
-- key); an admission locks its wallet before its key. YG001: refused, for the reason in the message; YG003: the hold had
-- ended.

-- A request without a key is in no index of keys; without statistics the planner used to prefer this one to the primary key.
ALTER TABLE tenant.transactions DROP CONSTRAINT transactions_network_id_user_id_idempotency_key_key;
CREATE UNIQUE INDEX transactions_idempotency ON tenant.transactions (network_id, user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The card's size as it is stored: as text, every change of a row would write the whole card out to measure it.
ALTER TABLE tenant.transactions DROP CONSTRAINT transactions_decision_card_check,
    ADD CONSTRAINT transactions_decision_card_check CHECK (pg_column_size(decision_card) <= 65536);

CREATE TYPE platform.admission AS (
    networks uuid[], queued boolean, network_id uuid, transaction_id uuid, user_id uuid, device uuid, key_id uuid,
    key_month text, scope text, kind text, model text, idempotency_key text, created_at timestamptz,
    price_cents bigint, price_unit_tokens integer, rounding text, fee_basis_points integer, decision_card text,
    hold_id uuid, hold_microcents bigint, attempt_id uuid, ordinal integer, provider_network uuid,
    provider_transaction uuid, provider_user uuid, provider_device uuid, provider uuid, offer uuid, node_id uuid,
    boot_id uuid, started_at timestamptz, deadline_at timestamptz, at timestamptz
);

-- `sources`: the states that a transaction may leave for `state`.
CREATE TYPE platform.attempt_end AS (
    networks uuid[], attempt_id uuid, attempt_state text, error_code text, observed_tokens bigint,
    claimed_tokens bigint, latency_ms integer, tokens_per_second integer, at timestamptz, state text, sources text[],
    prompt_tokens bigint, completion_tokens bigint, total_microcents bigint, fee_microcents bigint,
    earnings_microcents bigint, requester_network uuid, provider_network uuid, hold_id uuid, hold_state text,
    nonce bytea, sealed bytea, expires_at timestamptz, quality_ppm integer, verdict text
);

-- The books of one admission: state, hold and attempt. `admitted`, or YG001.
CREATE FUNCTION platform.admit(item platform.admission) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held text := 'held';
BEGIN
    IF item.scope = 'market' THEN
        -- What the company's own offers earn is paid out to nobody.
        IF item.provider_network <> '00000000-0000-0000-0000-000000000001' THEN
            PERFORM FROM tenant.payment_methods m
                WHERE m.network_id = item.provider_network AND m.state = 'verified'
                  AND m.purpose IN ('payout', 'both');
            IF NOT FOUND THEN
                held := 'payout';
            END IF;
        END IF;
        IF held = 'held' AND item.hold_id IS NOT NULL THEN
            held := platform.take_hold(
                item.network_id, item.hold_id, item.transaction_id, item.hold_microcents, item.node_id, item.boot_id,
                item.deadline_at, item.at, item.key_id, item.key_month
            );
        ELSIF held = 'held' THEN
            -- A free offer of another network: nothing to hold, but strangers are served to payers only.
            PERFORM FROM tenant.payment_methods m
                WHERE m.network_id = item.network_id AND m.state = 'verified' AND m.purpose IN ('spend', 'both');
            IF NOT FOUND THEN
                held := 'method';
            END IF;
        END IF;
        IF held <> 'held' THEN
            -- A key that was used before is told first.
            IF item.idempotency_key IS NOT NULL AND NOT item.queued THEN
                PERFORM FROM tenant.transactions t
                    WHERE t.network_id = item.network_id AND t.user_id = item.user_id
                      AND t.idempotency_key = item.idempotency_key;
                IF FOUND THEN
                    held := 'conflict';
                END IF;
            END IF;
            RAISE EXCEPTION USING ERRCODE = 'YG001', MESSAGE = held;
        END IF;
    END IF;
    IF item.queued THEN
        UPDATE tenant.transactions t SET state = 'PROCESSING', attempts = item.ordinal, price_cents = item.price_cents,
                price_unit_tokens = item.price_unit_tokens, rounding = item.rounding,
                fee_basis_points = item.fee_basis_points, decision_card = item.decision_card::jsonb, model = item.model
            WHERE t.network_id = item.network_id AND t.side = 'requester' AND t.transaction_id = item.transaction_id
              AND t.state = 'PENDING';
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'YG001', MESSAGE = 'ended';
        END IF;
        DELETE FROM platform.queued q
            WHERE q.network_id = item.network_id AND q.transaction_id = item.transaction_id;
    END IF;
    -- Both sides in one statement: what a row must obey is prepared anew by each.
    INSERT INTO tenant.transactions (network_id, side, transaction_id, user_id, device, key_id, state, scope, kind, model,
            price_cents, price_unit_tokens, rounding, fee_basis_points, prompt_tokens, completion_tokens, total_microcents,
            fee_microcents, earnings_microcents, attempts, decision_card, idempotency_key, created_at)
        SELECT s.network_id, s.side, s.transaction_id, s.user_id, s.device, s.key_id, 'PROCESSING', item.scope, item.kind,
            item.model, item.price_cents, item.price_unit_tokens, item.rounding, item.fee_basis_points, 0, 0, 0, 0, 0, 1,
            s.card::jsonb, s.idempotency_key, s.created_at
        FROM (VALUES
            (item.network_id, 'requester', CASE WHEN NOT item.queued THEN item.transaction_id END, item.user_id,
                item.device, item.key_id, item.decision_card, item.idempotency_key, item.created_at),
            (item.provider_network, 'provider', item.provider_transaction, item.provider_user, item.provider_device,
                NULL, NULL, NULL, item.started_at)
        ) AS s (network_id, side, transaction_id, user_id, device, key_id, card, idempotency_key, created_at)
        WHERE s.transaction_id IS NOT NULL;
    INSERT INTO platform.attempts (attempt_id, ordinal, requester_network, requester_transaction, hold_id,
            provider_network, provider_transaction, provider, offer, device, state, node_id, boot_id, started_at,
            deadline_at)
        VALUES (item.attempt_id, item.ordinal, item.network_id, item.transaction_id, item.hold_id, item.provider_network,
            item.provider_transaction, item.provider, item.offer, item.provider_device, 'dispatched', item.node_id,
            item.boot_id, item.started_at, item.deadline_at);
    RETURN 'admitted';
END
$$;

-- Rows are found by their keys alone: a plan made while the tables were empty must not read them whole when they have grown.

-- Each item's outcome, in order: `admitted`; why it was refused (`method`, `cover`, `key`, `limit`, `payout`, `conflict`,
-- `hold_used`, `ended`); of several items also `busy` with the network whose wallet somebody else keeps locked, and
-- `alone`: ask again, with this one by itself. What is not admitted has written nothing.
CREATE FUNCTION platform.admit_batch(items platform.admission[]) RETURNS text[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off AS $$
DECLARE
    count_all integer := cardinality(items); outcomes text[]; scope text := platform.leave_scope();
    item platform.admission; network uuid; busy uuid; outcome text; unique_of text;
BEGIN
    IF count_all > 1 THEN
        SET LOCAL lock_timeout = '100ms';
    END IF;
    FOR place IN 1..count_all LOOP
        item := items[place];
        scope := platform.enter_scope(item.networks);
        outcome := NULL;
        -- Several of one network: its wallet before the idempotency keys of all of them.
        IF item.network_id IS DISTINCT FROM network THEN
            network := item.network_id;
            IF place < count_all AND (items[place + 1]).network_id = network THEN
                BEGIN
                    PERFORM FROM tenant.balances b
                        WHERE b.network_id = network AND b.account = 'wallet' AND EXISTS (
                            SELECT FROM unnest(items) i WHERE i.network_id = network AND i.hold_id IS NOT NULL
                        )
                        FOR NO KEY UPDATE;
                EXCEPTION WHEN lock_not_available THEN
                    busy := network;
                    SET LOCAL lock_timeout = '10ms';
                END;
            END IF;
        END IF;
        IF network = busy AND item.hold_id IS NOT NULL THEN
            outcome := 'busy ' || network;
        END IF;
        IF outcome IS NULL THEN
            BEGIN
                outcome := platform.admit(item);
            EXCEPTION
                WHEN SQLSTATE 'YG001' THEN
                    outcome := SQLERRM;
                WHEN unique_violation THEN
                    GET STACKED DIAGNOSTICS unique_of = CONSTRAINT_NAME;
                    outcome := CASE unique_of WHEN 'holds_pkey' THEN 'hold_used' ELSE 'conflict' END;
                WHEN lock_not_available THEN
                    IF count_all = 1 THEN
                        RAISE;
                    END IF;
                    busy := network;
                    outcome := 'busy ' || network;
                    SET LOCAL lock_timeout = '10ms';
                WHEN OTHERS THEN
                    IF count_all = 1 THEN
                        RAISE;
                    END IF;
                    outcome := 'alone';
            END;
        END IF;
        outcomes[place] := outcome;
    END LOOP;
    RETURN outcomes;
END
$$;

-- Each item's outcome, in order: `done` (the attempt's end, both sides' states, the money and the stored result are
-- written), `before` (the attempt had ended in that state), `ended` (in another; nothing is changed). Of several items also
-- `busy` with the network whose balance somebody else keeps locked, `again` (not for its own fault: nothing is written yet)
-- and `alone`: ask again, with this one by itself. YG003: something is to be paid, and the hold had ended.
CREATE FUNCTION platform.finish_batch(items platform.attempt_end[]) RETURNS text[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off AS $$
DECLARE
    count_all integer := cardinality(items); outcomes text[]; scope text := platform.leave_scope();
    item platform.attempt_end; ends platform.hold_end[]; ends_of integer[]; held text[]; found_state text;
    requesters uuid[]; providers uuid[]; requester uuid; provider uuid; hold uuid; person uuid;
    moved record; at_item integer; busy text;
BEGIN
    IF count_all > 1 THEN
        SET LOCAL lock_timeout = '100ms';
    END IF;
    FOR place IN 1..count_all LOOP
        item := items[place];
        scope := platform.enter_scope(item.networks);
        at_item := place;
        UPDATE platform.attempts a SET state = item.attempt_state, error_code = item.error_code,
                observed_tokens = item.observed_tokens, claimed_tokens = item.claimed_tokens,
                latency_ms = item.latency_ms, tokens_per_second = item.tokens_per_second, ended_at = item.at,
                quality_ppm = item.quality_ppm, verdict = item.verdict
            WHERE a.attempt_id = item.attempt_id AND a.state IN ('dispatched', 'accepted')
            RETURNING a.requester_transaction, a.provider_transaction, a.hold_id INTO requester, provider, hold;
        IF NOT FOUND THEN
            -- Either a commit whose answer was lost on the way, or somebody else.
            SELECT a.state INTO found_state FROM platform.attempts a
                WHERE a.attempt_id = item.attempt_id FOR UPDATE;
            outcomes[place] := CASE WHEN found_state = item.attempt_state THEN 'before' ELSE 'ended' END;
            CONTINUE;
        END IF;
        IF item.hold_id IS DISTINCT FROM hold OR (hold IS NULL AND item.total_microcents <> 0) THEN
            RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'an attempt is paid from its own hold';
        END IF;
        outcomes[place] := 'done';
        requesters[place] := requester;
        providers[place] := provider;
        IF item.hold_id IS NOT NULL THEN
            ends := ends || ROW(
                item.networks, item.requester_network, item.hold_id, item.hold_state, item.at,
                CASE WHEN item.hold_state = 'posted' THEN item.attempt_id END, item.total_microcents,
                item.provider_network, item.fee_microcents, item.earnings_microcents
            )::platform.hold_end;
        END IF;
    END LOOP;
    at_item := NULL;
    IF ends IS NOT NULL THEN
        held := platform.end_holds(ends);
        FOR place IN 1..cardinality(ends) LOOP
            IF held[place] = 'ended' AND (ends[place]).state = 'posted' THEN
                RAISE EXCEPTION USING ERRCODE = 'YG003', MESSAGE = 'the hold had ended';
            END IF;
        END LOOP;
    END IF;
    FOR place IN 1..count_all LOOP
        CONTINUE WHEN outcomes[place] <> 'done';
        item := items[place];
        at_item := place;
        scope := platform.enter_scope(item.networks);
        person := NULL;
        FOR moved IN
            UPDATE tenant.transactions t SET state = item.state, error_code = item.error_code,
                    prompt_tokens = item.prompt_tokens, completion_tokens = item.completion_tokens,
                    total_microcents = item.total_microcents, fee_microcents = item.fee_microcents,
                    earnings_microcents = item.earnings_microcents, latency_ms = item.latency_ms, ended_at = item.at,
                    quality_ppm = item.quality_ppm
                WHERE t.state = ANY (item.sources) AND (
                    (t.network_id = item.requester_network AND t.side = 'requester' AND t.transaction_id = requesters[place])
                    OR (t.network_id = item.provider_network AND t.side = 'provider' AND t.transaction_id = providers[place])
                )
                RETURNING t.side, t.user_id
        LOOP
            IF moved.side = 'requester' THEN
                person := moved.user_id;
            END IF;
        END LOOP;
        IF person IS NULL AND item.total_microcents > 0 THEN
            RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'a payment without its transaction';
        END IF;
        IF person IS NOT NULL AND item.sealed IS NOT NULL THEN
            INSERT INTO tenant.results (network_id, transaction_id, user_id, nonce, sealed, created_at, expires_at)
                VALUES (item.requester_network, requesters[place], person, item.nonce, item.sealed, item.at, item.expires_at);
        END IF;
    END LOOP;
    RETURN outcomes;
EXCEPTION
    WHEN lock_not_available THEN
        IF count_all = 1 THEN
            RAISE;
        END IF;
        GET STACKED DIAGNOSTICS busy = PG_EXCEPTION_DETAIL;
        FOR place IN 1..count_all LOOP
            item := items[place];
            outcomes[place] := CASE
                WHEN at_item = place THEN 'busy ' || item.requester_network
                WHEN at_item IS NOT NULL THEN 'again'
                WHEN busy = '' THEN 'alone'
                WHEN busy::uuid IN (item.requester_network, item.provider_network) THEN 'busy ' || busy
                ELSE 'again'
            END;
        END LOOP;
        RETURN outcomes;
    WHEN OTHERS THEN
        IF count_all = 1 THEN
            RAISE;
        END IF;
        RETURN array_fill('alone'::text, ARRAY[count_all]);
END
$$;


REVOKE ALL ON FUNCTION platform.admit, platform.admit_batch, platform.finish_batch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.admit, platform.admit_batch, platform.finish_batch TO ygg_settle;
