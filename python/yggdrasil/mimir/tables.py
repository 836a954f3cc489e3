"""The definitions of the vault's tables; the drift test holds them against the live catalog."""

from piccolo.columns import UUID, Bytea, Integer, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class SubjectRow(Table, tablename="subjects", schema="vault", db=ENGINE):
    """A person and the wrapped data key; without a key, an erased one."""

    subject = UUID(primary_key=True, default=None)
    state = Text(default=None)
    wrapped_key = Bytea(default=None, null=True)
    kek_id = Text(default=None, null=True)
    created_at = Timestamptz(default=None)
    touched_at = Timestamptz(default=None)


class FieldRow(Table, tablename="fields", schema="vault", db=ENGINE):
    """A sealed value of a person. The real key is (subject, field)."""

    subject = UUID(primary_key=True, default=None)
    field = Text(default=None)
    sealed = Bytea(default=None)
    key_version = Integer(default=None)
    updated_at = Timestamptz(default=None)


class AddressRow(Table, tablename="addresses", schema="vault", db=ENGINE):
    """Whose address it is, by blind index."""

    address_index = Bytea(primary_key=True, default=None)
    subject = UUID(default=None)


class FlowRow(Table, tablename="flows", schema="vault", db=ENGINE):
    """The sealed note of a sign-in that is not proven."""

    flow = UUID(primary_key=True, default=None)
    wrapped_key = Bytea(default=None)
    sealed = Bytea(default=None)
    expires_at = Timestamptz(default=None)
