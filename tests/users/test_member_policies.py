"""What the database itself lets each role see and write, whatever the services ask it."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.support import ManualClock, SeededIds, as_superuser, make_network
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.kernel import Identity, Market, Network, Role, Settle

MONEY = ("payment_methods", "payments", "balances", "entries", "holds")
MANAGERS = (Role.OWNER, Role.ADMIN)


async def put(database: Database, admin: Login, table: str, row: dict[str, object]) -> None:
    names, places = ", ".join(row), ", ".join(f"${number + 1}" for number in range(len(row)))
    await as_superuser(database, admin, f"INSERT INTO {table} ({names}) VALUES ({places})", *row.values())


def method(scope: Network, ids: SeededIds, now: datetime, *, state: str = "unverified") -> dict[str, object]:
    words = {"gateway": "sandbox", "gateway_token": "t", "kind": "sandbox", "purpose": "both", "label": ""}
    mine = {"network_id": scope.network_id, "method_id": ids.uuid(), "user_id": scope.user_id}
    rest = {"state": state, "tries": 0, "is_default": False, "created_at": now, "updated_at": now}
    return mine | words | rest


def invitation(
    network_id: UUID, by: UUID, ids: SeededIds, now: datetime, role: str = "guest"
) -> dict[str, object]:
    return {
        "network_id": network_id,
        "invitation_id": ids.uuid(),
        "address_key": bytes(32),
        "secret_digest": bytes(32),
        "role": role,
        "name": "x",
        "invited_by": by,
        "created_at": now,
        "expires_at": now + timedelta(days=7),
    }


async def arrange(
    database: Database, admin: Login, owner: Network, ids: SeededIds, clock: ManualClock
) -> None:
    """One row of everything in the owner's network."""
    now, one = clock.now(), ids.uuid()
    here: dict[str, object] = {"network_id": owner.network_id}
    amount: dict[str, object] = {"amount_microcents": 1_000_000, "currency": "EUR"}
    rows: dict[str, dict[str, object]] = {
        "payment_methods": method(owner, ids, now, state="verified"),
        "payments": here
        | amount
        | {"payment_id": one, "method_id": one, "user_id": owner.user_id, "state": "created"}
        | {"gateway": "sandbox", "idempotency_key": "x", "asked_count": 0, "ask_at": now}
        | {"created_at": now, "updated_at": now},
        "balances": here
        | {"account": "wallet", "posted_microcents": 5, "held_microcents": 0, "currency": "EUR"},
        "entries": here
        | amount
        | {"transfer_id": one, "leg": 0, "account": "wallet", "kind": "topup", "at": now},
        "holds": here
        | amount
        | {"hold_id": one, "transaction_id": one, "state": "pending", "owner_node": one, "owner_boot": one}
        | {"deadline_at": now, "created_at": now},
        "invitations": invitation(owner.network_id, owner.user_id, ids, now),
        "devices": here
        | {"id": one, "device_id": "pc", "user_id": owner.user_id, "name": "x", "world": "alfheim"}
        | {"capabilities": "{}", "hardware": "{}", "device_key": bytes(32), "registered_at": now},
    }
    for table, row in rows.items():
        await put(database, admin, f"tenant.{table}", row)


async def insert(database: Database, scope: Network, table: str, row: dict[str, object]) -> None:
    names, places = ", ".join(row), ", ".join(f"${number + 1}" for number in range(len(row)))
    async with database.transaction(scope) as tx:
        await tx.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", *row.values())


async def count(database: Database, scope: Network | Identity | Market | Settle, table: str) -> int:
    async with database.transaction(scope) as tx:
        found: int = await tx.fetchval(f"SELECT count(*) FROM {table}")
    return found


@pytest.mark.parametrize("role", Role)
async def test_money_members_and_devices_by_role(
    database: Database, admin: Login, ids: SeededIds, clock: ManualClock, role: Role
) -> None:
    owner = await make_network(database, ids, clock)
    await arrange(database, admin, owner, ids, clock)
    mate = (
        owner
        if role is Role.OWNER
        else await make_network(database, ids, clock, role=role, home=owner.network_id)
    )
    sees = int(role in MANAGERS)
    for table in (*MONEY, "invitations"):
        assert await count(database, mate, f"tenant.{table}") == sees, table
    everybody = 1 if role is Role.OWNER else 2
    assert await count(database, mate, "identity.memberships") == (everybody if sees else 1)
    assert await count(database, mate, "tenant.devices") == (role is not Role.GUEST)
    stranger = await make_network(database, ids, clock)
    for table in (*MONEY, "invitations", "devices"):
        assert await count(database, stranger, f"tenant.{table}") == 0
    assert await count(database, stranger, "identity.memberships") == 1


@pytest.mark.parametrize("role", [Role.MEMBER, Role.GUEST])
async def test_who_does_not_manage_money_writes_none(
    database: Database, admin: Login, ids: SeededIds, clock: ManualClock, role: Role
) -> None:
    owner = await make_network(database, ids, clock)
    await arrange(database, admin, owner, ids, clock)
    mate = await make_network(database, ids, clock, role=role, home=owner.network_id)
    methods = "tenant.payment_methods"
    await insert(database, owner, methods, method(owner, ids, clock.now()))  # the control
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await insert(database, mate, methods, method(mate, ids, clock.now()))
    for table in ("payment_methods", "payments"):
        async with database.transaction(mate) as tx:
            changed = await tx.execute(f"UPDATE tenant.{table} SET updated_at = $1", clock.now())
            assert changed == "UPDATE 0"


@pytest.mark.parametrize(
    ("actor", "given"),
    [(Role.ADMIN, "admin"), (Role.MEMBER, "guest"), (Role.GUEST, "guest")],
)
async def test_the_database_refuses_an_invitation_above_the_role(
    database: Database, ids: SeededIds, clock: ManualClock, actor: Role, given: str
) -> None:
    owner = await make_network(database, ids, clock)
    mate = await make_network(database, ids, clock, role=actor, home=owner.network_id)

    async def invite(scope: Network, by: UUID, role: str) -> None:
        row = invitation(owner.network_id, by, ids, clock.now(), role)
        await insert(database, scope, "tenant.invitations", row)

    await invite(owner, owner.user_id, given)  # the control
    stranger = await make_network(database, ids, clock)
    for scope, by, role in (
        (mate, mate.user_id, given),
        (owner, mate.user_id, "guest"),  # in another's name
        (stranger, stranger.user_id, "guest"),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await invite(scope, by, role)
    with pytest.raises(asyncpg.CheckViolationError):
        await invite(owner, owner.user_id, "owner")


async def test_identity_without_a_user_sees_nobody_of_a_network(
    database: Database, admin: Login, ids: SeededIds, clock: ManualClock
) -> None:
    """A key's look-up claims a network that a stranger may have written into it."""
    owner = await make_network(database, ids, clock)
    mate = await make_network(database, ids, clock, role=Role.MEMBER, home=owner.network_id)
    await arrange(database, admin, owner, ids, clock)
    for table in ("identity.memberships", "tenant.invitations"):
        assert await count(database, Identity(owner.network_id), table) == 0
    assert await count(database, Identity(owner.network_id, mate.user_id), "identity.memberships") == 2
    assert await count(database, Identity(owner.network_id, mate.user_id), "tenant.devices") == 0
    async with database.transaction(Identity(owner.network_id, mate.user_id)) as tx:
        # Of this user alone, though the network is claimed.
        assert await tx.execute("DELETE FROM tenant.devices") == "DELETE 0"
        assert await tx.execute("UPDATE identity.memberships SET epoch = 9") == "UPDATE 1"
        assert await tx.execute("DELETE FROM identity.memberships") == "DELETE 1"
    for scope in (Market(), Settle((owner.network_id,))):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await count(database, scope, "tenant.invitations")
