-- By which offer a conversation was served last, for the half hour that it matters: written when a server stops, read and
-- deleted when its node starts again. A conversation is 16 bytes of a keyed digest; nobody's name for it is here.
CREATE TABLE platform.conversations (
    node_id uuid NOT NULL,
    conversation bytea NOT NULL CHECK (octet_length(conversation) = 16),
    offer uuid NOT NULL,
    served_at timestamptz NOT NULL,
    PRIMARY KEY (node_id, conversation)
);
ALTER TABLE platform.conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.conversations FORCE ROW LEVEL SECURITY;
GRANT INSERT ON platform.conversations TO ygg_market;
GRANT SELECT, DELETE ON platform.conversations TO ygg_system;
CREATE POLICY conversations_market_insert ON platform.conversations FOR INSERT TO ygg_market WITH CHECK (true);
CREATE POLICY conversations_system_select ON platform.conversations FOR SELECT TO ygg_system USING (true);
CREATE POLICY conversations_system_delete ON platform.conversations FOR DELETE TO ygg_system
    USING ((SELECT platform.current_job()) = 'router-recall');
