-- Analytics ask for a person's ended transactions and a network's settlements by time. Both indexes get one row per end
-- of a transaction: what runs, and the legs in `clearing`, are not in them.
CREATE INDEX transactions_ended ON tenant.transactions (network_id, user_id, side, ended_at)
    WHERE ended_at IS NOT NULL;
CREATE INDEX entries_settled ON tenant.entries (network_id, account, at)
    WHERE kind = 'settlement' AND account IN ('wallet', 'earnings');
