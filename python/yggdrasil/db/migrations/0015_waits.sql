-- Why, since when and from which place a request waits: a row for each stay in the queue, written as it begins, kept like
-- the attempts. How a stay ended is told by what came next: an attempt, another stay, or the end of the transaction. Others
-- are in it as numbers (who stood before, who waited), so no network reads it: the poster writes, operators explain.
CREATE TABLE platform.waits (
    network_id uuid NOT NULL,
    transaction_id uuid NOT NULL,
    ordinal integer NOT NULL CHECK (ordinal BETWEEN 1 AND 128),
    reason text NOT NULL CHECK (length(reason) <= 16 AND reason IN ('busy', 'refused', 'failed', 'unpaid')),
    gates text[] NOT NULL CHECK (cardinality(gates) <= 16),
    attempts integer NOT NULL CHECK (attempts BETWEEN 0 AND 64),
    ahead integer NOT NULL CHECK (ahead >= 0),
    waiting integer NOT NULL CHECK (waiting >= 0),
    queued_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, transaction_id, ordinal)
);
ALTER TABLE platform.waits ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.waits FORCE ROW LEVEL SECURITY;
GRANT INSERT ON platform.waits TO ygg_settle;
GRANT SELECT ON platform.waits TO ygg_system;
CREATE POLICY waits_settle_insert ON platform.waits FOR INSERT TO ygg_settle
    WITH CHECK (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
CREATE POLICY waits_system_select ON platform.waits FOR SELECT TO ygg_system USING (true);
