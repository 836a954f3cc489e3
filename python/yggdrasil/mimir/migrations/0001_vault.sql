-- The vault: people, sealed. This database holds no network, device or amount; the other holds no address and no name.
-- No column here is readable without keys that live outside both databases.

CREATE SCHEMA vault;
REVOKE ALL ON SCHEMA vault FROM PUBLIC;
GRANT USAGE ON SCHEMA vault TO ygg_mimir;

-- An erased subject keeps its row without a key: the mark by which an erasure is repeated after a restore.
CREATE TABLE vault.subjects (
    subject uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('pending', 'active', 'erased')),
    wrapped_key bytea CHECK (length(wrapped_key) <= 128),
    kek_id text CHECK (length(kek_id) <= 32),
    created_at timestamptz NOT NULL,
    touched_at timestamptz NOT NULL,
    CHECK ((state = 'erased') = (wrapped_key IS NULL)),
    CHECK ((wrapped_key IS NULL) = (kek_id IS NULL))
);
CREATE INDEX subjects_pending ON vault.subjects (touched_at) WHERE state = 'pending';
CREATE INDEX subjects_kek ON vault.subjects (kek_id) WHERE kek_id IS NOT NULL;

CREATE TABLE vault.fields (
    subject uuid NOT NULL REFERENCES vault.subjects (subject),
    field text NOT NULL CHECK (length(field) BETWEEN 1 AND 64),
    sealed bytea NOT NULL CHECK (length(sealed) <= 4224),
    key_version integer NOT NULL CHECK (key_version >= 1),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (subject, field)
);

-- The one globally unique thing: an address belongs to one subject.
CREATE TABLE vault.addresses (
    address_index bytea PRIMARY KEY CHECK (length(address_index) = 32),
    subject uuid NOT NULL UNIQUE REFERENCES vault.subjects (subject)
);

-- What a sign-in not yet proven needs to remember: its address and the wished name, until it expires.
CREATE TABLE vault.flows (
    flow uuid PRIMARY KEY,
    wrapped_key bytea NOT NULL CHECK (length(wrapped_key) <= 128),
    sealed bytea NOT NULL CHECK (length(sealed) <= 4224),
    expires_at timestamptz NOT NULL
);
CREATE INDEX flows_expiry ON vault.flows (expires_at);

GRANT SELECT, INSERT, UPDATE ON vault.subjects TO ygg_mimir;
GRANT SELECT, INSERT, UPDATE, DELETE ON vault.fields TO ygg_mimir;
GRANT SELECT, INSERT, DELETE ON vault.addresses TO ygg_mimir;
GRANT SELECT, INSERT, DELETE ON vault.flows TO ygg_mimir;

-- Row security with one full-access role adds nothing by itself; it is on so that a role made later sees nothing by default.
ALTER TABLE vault.subjects ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.subjects FORCE ROW LEVEL SECURITY;
CREATE POLICY subjects_mimir ON vault.subjects FOR ALL TO ygg_mimir USING (true) WITH CHECK (true);
ALTER TABLE vault.fields ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.fields FORCE ROW LEVEL SECURITY;
CREATE POLICY fields_mimir ON vault.fields FOR ALL TO ygg_mimir USING (true) WITH CHECK (true);
ALTER TABLE vault.addresses ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.addresses FORCE ROW LEVEL SECURITY;
CREATE POLICY addresses_mimir ON vault.addresses FOR ALL TO ygg_mimir USING (true) WITH CHECK (true);
ALTER TABLE vault.flows ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.flows FORCE ROW LEVEL SECURITY;
CREATE POLICY flows_mimir ON vault.flows FOR ALL TO ygg_mimir USING (true) WITH CHECK (true);
