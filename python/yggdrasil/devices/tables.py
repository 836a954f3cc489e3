"""The definition of `tenant.devices`; the drift test holds it against the live catalog."""

from piccolo.columns import JSONB, UUID, Bytea, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class DeviceRow(Table, tablename="devices", schema="tenant", db=ENGINE):
    """One device. The real key is (network_id, id); Piccolo knows single columns only."""

    network_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    device_id = Text(default=None)
    user_id = UUID(default=None)
    name = Text(default=None)
    world = Text(default=None)
    capabilities = JSONB(default="{}")
    hardware = JSONB(default="{}")
    device_key = Bytea(default=None)
    registered_at = Timestamptz(default=None)
    last_seen_at = Timestamptz(default=None, null=True)
