"""What the tables of money look like to Piccolo. Keys, policies and grants are the migration's.

Every primary key is (network_id, ...): Piccolo knows no composite keys, so it is told the last column alone.
"""

from __future__ import annotations

from piccolo.columns import UUID, BigInt, Boolean, Integer, SmallInt, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class Balances(Table, tablename="balances", schema="tenant", db=ENGINE):
    network_id = UUID()
    account = Text(primary_key=True)
    posted_microcents = BigInt()
    held_microcents = BigInt()
    currency = Text()


class Entries(Table, tablename="entries", schema="tenant", db=ENGINE):
    network_id = UUID()
    transfer_id = UUID()
    leg = SmallInt(primary_key=True)
    account = Text()
    amount_microcents = BigInt()
    currency = Text()
    kind = Text()
    at = Timestamptz()


class Holds(Table, tablename="holds", schema="tenant", db=ENGINE):
    network_id = UUID()
    hold_id = UUID(primary_key=True)
    transaction_id = UUID()
    amount_microcents = BigInt()
    currency = Text()
    state = Text()
    owner_node = UUID()
    owner_boot = UUID()
    deadline_at = Timestamptz()
    created_at = Timestamptz()
    ended_at = Timestamptz(null=True)
    transfer_id = UUID(null=True)
    key_id = UUID(null=True)
    key_month = Text(null=True)


class KeySpend(Table, tablename="key_spend", schema="tenant", db=ENGINE):
    network_id = UUID()
    key_id = UUID()
    period = Text(primary_key=True)
    limit_microcents = BigInt(null=True)
    held_microcents = BigInt()
    spent_microcents = BigInt()


class PaymentMethods(Table, tablename="payment_methods", schema="tenant", db=ENGINE):
    network_id = UUID()
    method_id = UUID(primary_key=True)
    user_id = UUID()
    gateway = Text()
    gateway_token = Text(secret=True)
    kind = Text()
    purpose = Text()
    state = Text()
    tries = Integer()
    is_default = Boolean()
    label = Text()
    created_at = Timestamptz()
    updated_at = Timestamptz()


class Payments(Table, tablename="payments", schema="tenant", db=ENGINE):
    network_id = UUID()
    payment_id = UUID(primary_key=True)
    method_id = UUID()
    user_id = UUID()
    amount_microcents = BigInt()
    currency = Text()
    state = Text()
    gateway = Text()
    gateway_ref = Text(null=True)
    failure_code = Text(null=True)
    idempotency_key = Text()
    asked_count = Integer()
    ask_at = Timestamptz()
    created_at = Timestamptz()
    updated_at = Timestamptz()


class SandboxCharges(Table, tablename="sandbox_charges", schema="platform", db=ENGINE):
    idempotency_key = UUID(primary_key=True)
    token = Text()
    amount_cents = BigInt()
    currency = Text()
    state = Text()
    gateway_ref = Text()
    failure_code = Text(null=True)
    visible_at = Timestamptz()
    created_at = Timestamptz()
