"""The definition of the tiers' table; the drift test holds it against the live catalog."""

from piccolo.columns import UUID, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class TierRow(Table, tablename="tiers", schema="tenant", db=ENGINE):
    """The tier of a network that has one of its own."""

    network_id = UUID(primary_key=True, default=None)
    tier = Text(default=None)
    assigned_at = Timestamptz(default=None)
