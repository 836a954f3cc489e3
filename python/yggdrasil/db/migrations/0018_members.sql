-- Members: invitations that are bound to an address and a secret, and memberships that can change and end. An invitation
-- holds no address: a keyed digest of it that no other network's invitation shares; the address itself lies sealed in the
-- vault until the invitation ends.

ALTER TABLE identity.memberships
    -- Tokens below it are refused. It outlives the membership in the revocations, so that no token outlives it.
    ADD COLUMN epoch integer NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    -- What the member calls the network: a word of who invited. The founder's has none.
    ADD COLUMN name text CHECK (length(name) BETWEEN 1 AND 80),
    ADD COLUMN invited_by uuid,
    -- The key of the device that accepted.
    ADD COLUMN accepted_key bytea CHECK (length(accepted_key) = 32),
    ADD CONSTRAINT memberships_invited
        CHECK (num_nonnulls(name, invited_by, accepted_key) IN (0, 3) AND (invited_by IS NULL OR role <> 'owner'));
CREATE UNIQUE INDEX memberships_one_owner ON identity.memberships (network_id) WHERE role = 'owner';

-- Who else is a member is for those who manage members.
DROP POLICY network_reads ON identity.memberships;
CREATE POLICY network_reads ON identity.memberships FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            user_id = (SELECT platform.current_user_id())
            OR (SELECT platform.current_role_name()) IN ('owner', 'admin')
        )
    );
-- Whoever changes a membership claims its user; whether the one who asks may is read beside it. A key's look-up claims a
-- network and nobody in it: it sees none.
CREATE POLICY identity_reads_claimed ON identity.memberships FOR SELECT TO ygg_identity
    USING (
        network_id = (SELECT platform.current_network()) AND (SELECT platform.current_user_id()) IS NOT NULL
    );

ALTER TABLE identity.revocations
    -- With it, `epoch` is that of the user's membership of this network, and nothing ends elsewhere.
    ADD COLUMN network_id uuid,
    ADD COLUMN keeps_sockets boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT revocations_of_membership CHECK (network_id IS NULL OR epoch IS NOT NULL);

ALTER TABLE identity.sessions DROP CONSTRAINT sessions_revoked_for_check;
ALTER TABLE identity.sessions ADD CONSTRAINT sessions_revoked_for_check
    CHECK (revoked_for IN ('logout', 'theft', 'deleted', 'limit', 'removed'));

-- Mails to an address that invite, counted over all networks: beyond the limit they are not sent, and nobody is told.
ALTER TABLE identity.login_limits DROP CONSTRAINT login_limits_kind_check;
ALTER TABLE identity.login_limits ADD CONSTRAINT login_limits_kind_check
    CHECK (kind IN ('send', 'try', 'try_day', 'invite'));

CREATE TABLE tenant.invitations (
    network_id uuid NOT NULL REFERENCES tenant.networks (network_id) ON DELETE CASCADE,
    invitation_id uuid NOT NULL,
    address_key bytea NOT NULL CHECK (length(address_key) = 32),
    secret_digest bytea NOT NULL CHECK (length(secret_digest) = 32),
    role text NOT NULL CHECK (role IN ('admin', 'member', 'guest')),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    invited_by uuid NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_for text CHECK (ended_for IN ('accepted', 'revoked')),
    PRIMARY KEY (network_id, invitation_id),
    CHECK ((ended_at IS NULL) = (ended_for IS NULL))
);
CREATE INDEX invitations_in_order ON tenant.invitations (network_id, created_at, invitation_id);
CREATE INDEX invitations_old ON tenant.invitations (expires_at);
ALTER TABLE tenant.invitations ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.invitations FORCE ROW LEVEL SECURITY;

GRANT SELECT, INSERT ON tenant.invitations TO ygg_network;
GRANT UPDATE (ended_at, ended_for) ON tenant.invitations TO ygg_network, ygg_identity;
GRANT SELECT ON tenant.invitations TO ygg_identity, ygg_system;
GRANT DELETE ON tenant.invitations TO ygg_system;
CREATE POLICY network_select ON tenant.invitations FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );
CREATE POLICY network_insert ON tenant.invitations FOR INSERT TO ygg_network
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND invited_by = (SELECT platform.current_user_id())
        AND ended_at IS NULL
        AND (
            (SELECT platform.current_role_name()) = 'owner'
            OR ((SELECT platform.current_role_name()) = 'admin' AND role <> 'admin')
        )
    );
-- An invitation ends once.
CREATE POLICY network_update ON tenant.invitations FOR UPDATE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
        AND ended_at IS NULL
    )
    WITH CHECK (network_id = (SELECT platform.current_network()) AND ended_for = 'revoked');
-- Accepting claims the network that the invitation's text names, and the user who accepts.
CREATE POLICY identity_select ON tenant.invitations FOR SELECT TO ygg_identity
    USING (
        network_id = (SELECT platform.current_network()) AND (SELECT platform.current_user_id()) IS NOT NULL
    );
CREATE POLICY identity_update ON tenant.invitations FOR UPDATE TO ygg_identity
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_user_id()) IS NOT NULL
        AND ended_at IS NULL
    )
    WITH CHECK (network_id = (SELECT platform.current_network()) AND ended_at IS NOT NULL);
CREATE POLICY system_select ON tenant.invitations FOR SELECT TO ygg_system USING (true);
CREATE POLICY retention_deletes ON tenant.invitations FOR DELETE TO ygg_system
    USING ((SELECT platform.current_job()) = 'invitation-retention');

-- What ends with a membership: the member's keys and devices, in the same transaction, of this member alone.
GRANT UPDATE (revoked_at) ON tenant.api_keys TO ygg_identity;
CREATE POLICY identity_revokes ON tenant.api_keys FOR UPDATE TO ygg_identity
    USING (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    )
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
        AND revoked_at IS NOT NULL
    );
GRANT SELECT (network_id, id, user_id), DELETE ON tenant.devices TO ygg_identity;
CREATE POLICY identity_select ON tenant.devices FOR SELECT TO ygg_identity
    USING (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    );
CREATE POLICY identity_delete ON tenant.devices FOR DELETE TO ygg_identity
    USING (
        network_id = (SELECT platform.current_network()) AND user_id = (SELECT platform.current_user_id())
    );

-- Members meet each other's devices; guests see none but their own.
DROP POLICY devices_network_select ON tenant.devices;
CREATE POLICY devices_network_select ON tenant.devices FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (
            (SELECT platform.current_role_name()) <> 'guest'
            OR user_id = (SELECT platform.current_user_id())
        )
    );

-- The network's money is spent by its members, through the poster, and looked at by its owner and admins.
DROP POLICY network_select ON tenant.payment_methods;
CREATE POLICY network_select ON tenant.payment_methods FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );
DROP POLICY network_insert ON tenant.payment_methods;
CREATE POLICY network_insert ON tenant.payment_methods FOR INSERT TO ygg_network
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
        AND state = 'unverified'
    );
DROP POLICY network_update ON tenant.payment_methods;
CREATE POLICY network_update ON tenant.payment_methods FOR UPDATE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
        AND state <> 'removed'
    )
    WITH CHECK (network_id = (SELECT platform.current_network()));
DROP POLICY network_select ON tenant.payments;
CREATE POLICY network_select ON tenant.payments FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );
DROP POLICY network_insert ON tenant.payments;
CREATE POLICY network_insert ON tenant.payments FOR INSERT TO ygg_network
    WITH CHECK (
        network_id = (SELECT platform.current_network())
        AND user_id = (SELECT platform.current_user_id())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
        AND state = 'created'
    );
DROP POLICY network_update ON tenant.payments;
CREATE POLICY network_update ON tenant.payments FOR UPDATE TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
        AND state = 'created'
    )
    WITH CHECK (network_id = (SELECT platform.current_network()) AND state = 'charging');
DROP POLICY network_select ON tenant.balances;
CREATE POLICY network_select ON tenant.balances FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );
DROP POLICY network_select ON tenant.entries;
CREATE POLICY network_select ON tenant.entries FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );
DROP POLICY network_select ON tenant.holds;
CREATE POLICY network_select ON tenant.holds FOR SELECT TO ygg_network
    USING (
        network_id = (SELECT platform.current_network())
        AND (SELECT platform.current_role_name()) IN ('owner', 'admin')
    );
