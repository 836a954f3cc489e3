"""The definitions of the tables of the audit; the drift test holds them against the live catalog."""

from piccolo.columns import UUID, BigInt, Bytea, SmallInt, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class AuditEventRow(Table, tablename="audit_events", schema="tenant", db=ENGINE):
    """What was done. The real key is (network_id, event_id)."""

    network_id = UUID(default=None)
    event_id = UUID(primary_key=True, default=None)
    kind = Text(default=None)
    actor_kind = Text(default=None)
    actor_id = UUID(default=None, null=True)
    user_id = UUID(default=None, null=True)
    subject_kind = Text(default=None)
    subject_id = UUID(default=None, null=True)
    detail = Text(default=None)
    at = Timestamptz(default=None)


class AuditPendingRow(Table, tablename="audit_pending", schema="tenant", db=ENGINE):
    """An event that is in no chain yet. The real key is (network_id, event_id)."""

    network_id = UUID(default=None)
    event_id = UUID(primary_key=True, default=None)


class AuditLinkRow(Table, tablename="audit_links", schema="tenant", db=ENGINE):
    """An event's place in its network's chain. The real key is (network_id, number)."""

    network_id = UUID(default=None)
    number = BigInt(default=None)
    event_id = UUID(primary_key=True, default=None)
    format = SmallInt(default=None)
    previous_hash = Bytea(default=None)
    hash = Bytea(default=None)


class AuditHeadRow(Table, tablename="audit_heads", schema="tenant", db=ENGINE):
    """Where a chain ended when it was signed. The real key is (network_id, number)."""

    network_id = UUID(primary_key=True, default=None)
    number = BigInt(default=None)
    hash = Bytea(default=None)
    at = Timestamptz(default=None)
    key_id = Text(default=None)
    signature = Bytea(default=None)
