"""The definition of Nornen's table; the drift test holds it against the live catalog."""

from piccolo.columns import JSONB, UUID, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class RegistrationRow(Table, tablename="registrations", schema="tenant", db=ENGINE):
    """A decision on a registration."""

    network_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    device_id = Text(default=None)
    verdict = Text(default=None)
    reasons = JSONB(default=None)
    facts = JSONB(default=None)
    asked = JSONB(default=None)
    appeal_of = UUID(default=None, null=True)
    decided_at = Timestamptz(default=None)
