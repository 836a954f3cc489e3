-- The ledger as functions, which batches of the marketplace and single transactions share. They run as their caller, under
-- its row security, and are the poster's only. Rows are locked in one order, by everybody: attempts; holds; balances by
-- (network_id, account); what a key spent, behind its wallet; the sides' transactions, whose guard is the attempt.
-- YG002: a bug's posting.

-- `state`: posted (then with a transfer and its amounts), voided or expired. `networks` null: the scope of the transaction.
CREATE TYPE platform.hold_end AS (
    networks uuid[], network_id uuid, hold_id uuid, state text, at timestamptz, transfer_id uuid,
    total_microcents bigint, provider_network uuid, fee_microcents bigint, earnings_microcents bigint
);

CREATE TYPE platform.movement AS (
    network_id uuid, account text, posted_microcents bigint, held_microcents bigint
);

-- The scope of a batch's statements, until the end of its transaction. Too many networks are none.
CREATE FUNCTION platform.leave_scope() RETURNS text
    LANGUAGE sql VOLATILE
    RETURN concat(
        set_config('app.network', '', true), set_config('app.user', '', true), set_config('app.role', '', true),
        set_config('app.networks', '', true), set_config('app.job', '', true)
    );
CREATE FUNCTION platform.enter_scope(networks uuid[]) RETURNS text
    LANGUAGE sql VOLATILE
    RETURN set_config(
        'app.networks',
        CASE WHEN cardinality(networks) BETWEEN 1 AND 3 THEN array_to_string(networks, ',') ELSE '' END,
        true
    );

-- Reserve an amount of a wallet, and of what the API key may spend. `held`, or why not: `method` (no verified method for
-- spending), `cover` (not that much is free), `key` (it has ended), `limit` (the key's). After anything but `held` the
-- caller rolls back.
CREATE FUNCTION platform.take_hold(
    network_id uuid, hold_id uuid, transaction_id uuid, amount_microcents bigint, owner_node uuid, owner_boot uuid,
    deadline_at timestamptz, at timestamptz, key_id uuid, key_month text
) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    total_most bigint; month_most bigint; counted integer;
BEGIN
    PERFORM FROM tenant.payment_methods m
        WHERE m.network_id = take_hold.network_id AND m.state = 'verified' AND m.purpose IN ('spend', 'both');
    IF NOT FOUND THEN
        RETURN 'method';
    END IF;
    UPDATE tenant.balances b SET held_microcents = b.held_microcents + take_hold.amount_microcents
        WHERE b.network_id = take_hold.network_id AND b.account = 'wallet'
          AND b.posted_microcents - b.held_microcents >= take_hold.amount_microcents;
    IF NOT FOUND THEN
        RETURN 'cover';
    END IF;
    IF take_hold.key_id IS NOT NULL THEN
        SELECT k.spend_limit_microcents, k.monthly_limit_microcents INTO total_most, month_most
            FROM tenant.api_keys k
            WHERE k.network_id = take_hold.network_id AND k.key_id = take_hold.key_id AND k.revoked_at IS NULL
              AND (k.expires_at IS NULL OR k.expires_at > take_hold.at);
        IF NOT FOUND THEN
            RETURN 'key';
        END IF;
        -- A limit is checked on the row as it is once locked, and the wallet's lock is held before it.
        INSERT INTO tenant.key_spend AS s (network_id, key_id, period, limit_microcents, held_microcents, spent_microcents)
            SELECT take_hold.network_id, take_hold.key_id, p.period, p.most, take_hold.amount_microcents, 0
            FROM (VALUES (take_hold.key_month, month_most), ('total', total_most)) AS p (period, most)
            WHERE p.most IS NULL OR p.most >= take_hold.amount_microcents
            ON CONFLICT ON CONSTRAINT key_spend_pkey
                DO UPDATE SET held_microcents = s.held_microcents + excluded.held_microcents
                WHERE s.limit_microcents IS NULL
                   OR s.limit_microcents - s.held_microcents - s.spent_microcents >= excluded.held_microcents;
        GET DIAGNOSTICS counted = ROW_COUNT;
        IF counted <> 2 THEN
            RETURN 'limit';
        END IF;
    END IF;
    INSERT INTO tenant.holds (network_id, hold_id, transaction_id, amount_microcents, currency, state, owner_node,
            owner_boot, deadline_at, created_at, key_id, key_month)
        VALUES (take_hold.network_id, take_hold.hold_id, take_hold.transaction_id, take_hold.amount_microcents, 'EUR',
            'pending', take_hold.owner_node, take_hold.owner_boot, take_hold.deadline_at, take_hold.at,
            take_hold.key_id, take_hold.key_month);
    RETURN 'held';
END
$$;

-- The legs of a paid request: the requester's wallet pays, the provider earns, the platform keeps its fee; in each network
-- they are numbered from 0 and sum to zero. A fee of 0 has no leg.
CREATE FUNCTION platform.settlement_legs(one platform.hold_end)
    RETURNS TABLE (network_id uuid, leg smallint, account text, amount_microcents bigint)
    LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT l.network_id, l.leg::smallint, l.account, l.amount
    FROM (VALUES
        ((one).network_id, 0, 'wallet', -(one).total_microcents),
        ((one).network_id, 1, 'clearing', (one).total_microcents),
        ((one).provider_network, 0, 'earnings', (one).earnings_microcents),
        ((one).provider_network, 1, 'clearing', -(one).earnings_microcents),
        ('00000000-0000-0000-0000-000000000001'::uuid, CASE WHEN '00000000-0000-0000-0000-000000000001'
            IN ((one).network_id, (one).provider_network) THEN 2 ELSE 0 END, 'fee', (one).fee_microcents),
        ('00000000-0000-0000-0000-000000000001'::uuid, CASE WHEN '00000000-0000-0000-0000-000000000001'
            IN ((one).network_id, (one).provider_network) THEN 3 ELSE 1 END, 'clearing', -(one).fee_microcents)
    ) AS l (network_id, leg, account, amount)
    WHERE l.amount <> 0;
END;

-- The one end of holds, and the only posting of settlements: each is `posted`, `voided` or `expired`, all together or none.
-- `already`: this transfer was posted before. `ended`: the hold had ended, or (for a void) never was; nothing changed.
-- What only a bug can ask for is YG002: no such hold, more than was held, a sum that does not add up, a payment inside
-- one network, a transfer used twice.
CREATE FUNCTION platform.end_holds(ends platform.hold_end[]) RETURNS text[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    platform_network CONSTANT uuid := '00000000-0000-0000-0000-000000000001'; one platform.hold_end; scope text;
    outcomes text[]; amount bigint; key_id uuid; key_month text; amounts bigint[]; key_ids uuid[];
    key_months text[]; movements platform.movement[]; found_state text; found_transfer uuid; written text[];
    asked text[]; moved record; counted integer; busy uuid;
BEGIN
    FOR place IN 1..coalesce(cardinality(ends), 0) LOOP
        one := ends[place];
        busy := one.network_id;
        IF one.networks IS NOT NULL THEN
            scope := platform.enter_scope(one.networks);
        END IF;
        IF one.state = 'posted' THEN
            IF (one.total_microcents > 0 AND one.fee_microcents >= 0 AND one.earnings_microcents > 0
                AND one.fee_microcents <= one.total_microcents
                AND one.total_microcents - one.fee_microcents = one.earnings_microcents
                AND one.network_id <> one.provider_network AND one.transfer_id IS NOT NULL) IS NOT TRUE THEN
                RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'the amounts of a settlement must add up';
            END IF;
        ELSIF (coalesce(one.total_microcents, 0), coalesce(one.fee_microcents, 0), coalesce(one.earnings_microcents, 0))
            <> (0, 0, 0) THEN
            -- It would leave the wallet without an entry.
            RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'a hold that is given back pays nothing';
        END IF;
        UPDATE tenant.holds h SET state = one.state, ended_at = one.at, transfer_id = one.transfer_id
            WHERE h.network_id = one.network_id AND h.hold_id = one.hold_id AND h.state = 'pending'
              AND h.amount_microcents >= coalesce(one.total_microcents, 0)
            RETURNING h.amount_microcents, h.key_id, h.key_month INTO amount, key_id, key_month;
        IF FOUND THEN
            outcomes[place] := one.state;
            amounts[place] := amount;
            key_ids[place] := key_id;
            key_months[place] := key_month;
            movements := movements || ROW(
                one.network_id, 'wallet', -coalesce(one.total_microcents, 0), -amount
            )::platform.movement;
            IF one.state = 'posted' THEN
                movements := movements || ROW(
                    one.provider_network, 'earnings', one.earnings_microcents, 0
                )::platform.movement;
            END IF;
            CONTINUE;
        END IF;
        outcomes[place] := 'ended';
        IF one.state <> 'posted' THEN
            CONTINUE;
        END IF;
        SELECT h.state, h.amount_microcents, h.transfer_id INTO found_state, amount, found_transfer
            FROM tenant.holds h WHERE h.network_id = one.network_id AND h.hold_id = one.hold_id;
        IF found_state IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'hold_id: there is no such hold';
        ELSIF found_state = 'pending' THEN
            RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = format('total_microcents: %s is over the %s held', one.total_microcents, amount);
        ELSIF found_state <> 'posted' THEN
            CONTINUE;
        ELSIF found_transfer <> one.transfer_id THEN
            RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'hold_id: was settled by another transfer';
        END IF;
        SELECT array_agg(ROW(e.network_id, e.leg, e.account, e.amount_microcents)::text ORDER BY e.network_id, e.leg)
            INTO written FROM tenant.entries e
            WHERE e.network_id IN (one.network_id, one.provider_network, platform_network)
              AND e.transfer_id = one.transfer_id;
        SELECT array_agg(l::text ORDER BY l.network_id, l.leg) INTO asked FROM platform.settlement_legs(one) l;
        IF written IS DISTINCT FROM asked THEN
            RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'transfer_id: was used for another settlement';
        END IF;
        outcomes[place] := 'already';
    END LOOP;
    -- One change for each account, in the order in which everybody locks them.
    FOR moved IN
        SELECT m.network_id, m.account, sum(m.posted_microcents)::bigint AS posted,
            sum(m.held_microcents)::bigint AS held
        FROM unnest(movements) m GROUP BY m.network_id, m.account ORDER BY m.network_id, m.account
    LOOP
        busy := moved.network_id;
        IF one.networks IS NOT NULL THEN
            scope := platform.enter_scope(ARRAY[moved.network_id]);
        END IF;
        IF moved.account = 'wallet' THEN
            UPDATE tenant.balances b SET posted_microcents = b.posted_microcents + moved.posted,
                    held_microcents = b.held_microcents + moved.held
                WHERE b.network_id = moved.network_id AND b.account = 'wallet';
            IF NOT FOUND THEN
                RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'a hold without a wallet';
            END IF;
        ELSE
            INSERT INTO tenant.balances AS b (network_id, account, posted_microcents, held_microcents, currency)
                VALUES (moved.network_id, moved.account, moved.posted, 0, 'EUR')
                ON CONFLICT ON CONSTRAINT balances_pkey
                    DO UPDATE SET posted_microcents = b.posted_microcents + excluded.posted_microcents;
        END IF;
    END LOOP;
    -- Not over `amounts`: an array whose first element came to a later place begins there, and its cardinality is no place.
    FOR place IN 1..coalesce(cardinality(ends), 0) LOOP
        CONTINUE WHEN amounts[place] IS NULL;
        one := ends[place];
        busy := one.network_id;
        IF one.networks IS NOT NULL THEN
            scope := platform.enter_scope(one.networks);
        END IF;
        IF key_ids[place] IS NOT NULL THEN
            UPDATE tenant.key_spend s SET held_microcents = s.held_microcents - amounts[place],
                    spent_microcents = s.spent_microcents + coalesce(one.total_microcents, 0)
                WHERE s.network_id = one.network_id AND s.key_id = key_ids[place]
                  AND s.period IN ('total', key_months[place]);
            GET DIAGNOSTICS counted = ROW_COUNT;
            IF counted <> 2 THEN
                RAISE EXCEPTION USING ERRCODE = 'YG002', MESSAGE = 'a hold that its key does not count';
            END IF;
        END IF;
        IF one.state = 'posted' THEN
            INSERT INTO tenant.entries (network_id, transfer_id, leg, account, amount_microcents, currency, kind, at)
                SELECT l.network_id, one.transfer_id, l.leg, l.account, l.amount_microcents, 'EUR', 'settlement', one.at
                FROM platform.settlement_legs(one) l;
        END IF;
    END LOOP;
    RETURN outcomes;
EXCEPTION WHEN lock_not_available THEN
    -- The same condition, saying whose row it is.
    RAISE lock_not_available USING MESSAGE = SQLERRM, DETAIL = busy;
END
$$;

REVOKE ALL ON FUNCTION platform.take_hold, platform.settlement_legs, platform.end_holds FROM PUBLIC;
REVOKE ALL ON FUNCTION platform.leave_scope, platform.enter_scope FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.take_hold, platform.settlement_legs, platform.end_holds TO ygg_settle;
GRANT EXECUTE ON FUNCTION platform.leave_scope, platform.enter_scope TO ygg_settle;
