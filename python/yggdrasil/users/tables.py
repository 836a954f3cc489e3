"""The definitions of the tables of sign-in; the drift test holds them against the live catalog."""

from piccolo.columns import UUID, Array, BigInt, Boolean, Bytea, Integer, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class LoginFlowRow(Table, tablename="login_flows", schema="identity", db=ENGINE):
    """A sign-in that was asked for."""

    flow = UUID(primary_key=True, default=None)
    address_key = Bytea(default=None)
    device_key = Bytea(default=None)
    code_digest = Bytea(default=None)
    tries = Integer(default=None)
    created_at = Timestamptz(default=None)
    expires_at = Timestamptz(default=None)
    used_at = Timestamptz(default=None, null=True)


class LoginLimitRow(Table, tablename="login_limits", schema="identity", db=ENGINE):
    """A counter over a window. The real key is (kind, counted_key)."""

    kind = Text(default=None)
    counted_key = Bytea(primary_key=True, default=None)
    window_start = Timestamptz(default=None)
    hits = Integer(default=None)


class KnownDeviceRow(Table, tablename="known_devices", schema="identity", db=ENGINE):
    """A device key that has signed in to an address' account. The real key is (address_key, device_key)."""

    address_key = Bytea(default=None)
    device_key = Bytea(primary_key=True, default=None)
    user_id = UUID(default=None)
    seen_at = Timestamptz(default=None)


class SessionRow(Table, tablename="sessions", schema="identity", db=ENGINE):
    """A sign-in that holds: the family of its refresh tokens."""

    session_id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    network_id = UUID(default=None)
    device_key = Bytea(default=None)
    device_id = UUID(default=None, null=True)
    counter = Integer(default=None)
    created_at = Timestamptz(default=None)
    refreshed_at = Timestamptz(default=None)
    expires_at = Timestamptz(default=None)
    revoked_at = Timestamptz(default=None, null=True)
    revoked_for = Text(default=None, null=True)
    ends_at = Timestamptz(default=None, null=True)


class HandOverAskRow(Table, tablename="hand_over_asks", schema="identity", db=ENGINE):
    """A device that asks for a network."""

    flow = UUID(primary_key=True, default=None)
    address_key = Bytea(default=None)
    device_key = Bytea(default=None)
    sealing_key = Bytea(default=None)
    code_digest = Bytea(default=None)
    tries = Integer(default=None)
    created_at = Timestamptz(default=None)
    expires_at = Timestamptz(default=None)
    used_at = Timestamptz(default=None, null=True)
    approved_user = UUID(default=None, null=True)
    approved_network = UUID(default=None, null=True)
    approved_session = UUID(default=None, null=True)
    approved_device = UUID(default=None, null=True)


class HandOverRow(Table, tablename="hand_overs", schema="tenant", db=ENGINE):
    """What was handed over, and to which device. The real key is (network_id, hand_over_id)."""

    network_id = UUID(default=None)
    hand_over_id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    session_id = UUID(default=None)
    device_key = Bytea(default=None)
    device_name = Text(default=None)
    proven_by = Text(default=None)
    approved_by = UUID(default=None, null=True)
    asked_at = Timestamptz(default=None)
    given_at = Timestamptz(default=None)
    ends_at = Timestamptz(default=None)
    revoked_at = Timestamptz(default=None, null=True)
    revoked_by = UUID(default=None, null=True)


class ErasureRow(Table, tablename="erasures", schema="identity", db=ENGINE):
    """A person to be erased in the vault."""

    user_id = UUID(primary_key=True, default=None)
    requested_at = Timestamptz(default=None)
    erased_at = Timestamptz(default=None, null=True)


class RevocationRow(Table, tablename="revocations", schema="identity", db=ENGINE):
    """What ended in the last minutes: a session, a key, a user's tokens below an epoch, or a membership's."""

    revocation_id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    session_id = UUID(default=None, null=True)
    key_id = UUID(default=None, null=True)
    epoch = Integer(default=None, null=True)
    at = Timestamptz(default=None)
    network_id = UUID(default=None, null=True)
    keeps_sockets = Boolean(default=False)


class ApiKeyRow(Table, tablename="api_keys", schema="tenant", db=ENGINE):
    """An API key. The real key is (network_id, key_id)."""

    network_id = UUID(default=None)
    key_id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    name = Text(default=None)
    secret_digest = Bytea(default=None)
    created_at = Timestamptz(default=None)
    revoked_at = Timestamptz(default=None, null=True)
    spend_limit_microcents = BigInt(default=None, null=True)
    monthly_limit_microcents = BigInt(default=None, null=True)
    models = Array(base_column=Text(), default=None, null=True)
    expires_at = Timestamptz(default=None, null=True)
    last_used_at = Timestamptz(default=None, null=True)
    rotated_at = Timestamptz(default=None, null=True)
    previous_digest = Bytea(default=None, null=True)
    previous_until = Timestamptz(default=None, null=True)


class InvitationRow(Table, tablename="invitations", schema="tenant", db=ENGINE):
    """An invitation into a network. The real key is (network_id, invitation_id)."""

    network_id = UUID(default=None)
    invitation_id = UUID(primary_key=True, default=None)
    address_key = Bytea(default=None)
    secret_digest = Bytea(default=None)
    role = Text(default=None)
    name = Text(default=None)
    invited_by = UUID(default=None)
    created_at = Timestamptz(default=None)
    expires_at = Timestamptz(default=None)
    ended_at = Timestamptz(default=None, null=True)
    ended_for = Text(default=None, null=True)
