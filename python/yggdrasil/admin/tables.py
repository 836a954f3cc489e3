"""The definitions of the operators' tables; the drift test holds them against the live catalog."""

from piccolo.columns import UUID, Bytea, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class OperatorRow(Table, tablename="operators", schema="identity", db=ENGINE):
    """A person who runs the house."""

    operator_id = UUID(primary_key=True, default=None)
    name = Text(default=None)
    secret_digest = Bytea(default=None)
    created_at = Timestamptz(default=None)
    revoked_at = Timestamptz(default=None, null=True)


class OpeningRow(Table, tablename="openings", schema="tenant", db=ENGINE):
    """What an operator opened of a network. The real key is (network_id, opening_id)."""

    network_id = UUID(default=None)
    opening_id = UUID(primary_key=True, default=None)
    operator_id = UUID(default=None, null=True)
    user_id = UUID(default=None, null=True)
    subject = Text(default=None)
    subject_id = UUID(default=None)
    reason = Text(default=None)
    at = Timestamptz(default=None)
