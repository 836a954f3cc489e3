# ruff: noqa: PT012  what is expected to fail is a whole transaction
"""The rows of two networks that traded, asked for without a WHERE: nothing but the policies keeps them apart
here, and it is enough. The tables come from the catalog, so that a new one is looked at too.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest

from tests.marketplace.world import World, chat
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.kernel import Identity, Market, Network, Scope, Settle
from yggdrasil.users.store_keys import NO_TERMS, insert_key

TABLES = """
    SELECT c.relname AS name, EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped
    ) AS personal
    FROM pg_class c WHERE c.relnamespace = 'tenant'::regnamespace AND c.relkind IN ('r', 'p')
    ORDER BY c.relname
"""
MARKETS_OWN = {"offers"}
"""What the router reads of everybody."""
TOGETHER = {
    "devices",
    "providers",
    "offers",
    "payment_methods",
    "payments",
    "networks",
    "balances",
    "entries",
    "holds",
}
"""What the members of a network see of each other, or the network as a whole."""
FILLED_MIN = 6


@dataclass
class Traded:
    world: World
    seller: Network
    buyer: Network
    member: Network
    admin: Login

    async def tables(self) -> list[tuple[str, bool]]:
        rows = await as_superuser(self.world.database, self.admin, TABLES)
        return [(str(row["name"]), bool(row["personal"])) for row in rows]

    async def networks_in(self, table: str) -> set[object]:
        rows = await as_superuser(
            self.world.database, self.admin, f"SELECT DISTINCT network_id FROM tenant.{table}"
        )
        return {row["network_id"] for row in rows}


@pytest.fixture
async def traded(world: World, admin: Login) -> Traded:
    device = await world.seller()
    buyer = await world.buyer()
    member = await world.person(buyer)
    for scope in (device.scope, buyer, member):
        async with world.database.transaction(scope) as tx:
            await insert_key(
                tx,
                scope.network_id,
                world.ids.uuid(),
                scope.user_id,
                "ci",
                bytes(32),
                world.clock.now(),
                NO_TERMS,
            )
    await world.device(buyer, "phone")
    await world.device(member, "tablet")
    await (await world.market.run(buyer, chat())).outcome()
    return Traded(world, device.scope, buyer, member, admin)


async def seen(traded: Traded, scope: Scope, table: str, column: str = "network_id") -> set[UUID] | None:
    """What a scope sees of a table; None if it may not ask."""
    try:
        async with traded.world.database.transaction(scope) as tx:
            return {row[0] for row in await tx.fetch(f"SELECT {column} FROM tenant.{table}")}
    except asyncpg.InsufficientPrivilegeError:
        return None


async def test_no_scope_sees_a_row_of_another_network(traded: Traded) -> None:
    buyer, seller = traded.buyer, traded.seller
    scopes: list[tuple[Scope, set[UUID]]] = [
        (buyer, {buyer.network_id}),
        (seller, {seller.network_id}),
        (Identity(buyer.network_id, buyer.user_id), {buyer.network_id}),
        (Identity(user_id=buyer.user_id), set()),
        (Settle((buyer.network_id,)), {buyer.network_id}),
        (Settle((buyer.network_id, seller.network_id)), {buyer.network_id, seller.network_id}),
        (Market(), set()),
    ]
    filled, found = 0, defaultdict(int)
    for table, _ in await traded.tables():
        filled += {buyer.network_id, seller.network_id} <= await traded.networks_in(table)
        for scope, mine in scopes:
            if isinstance(scope, Market) and table in MARKETS_OWN:
                continue
            rows = await seen(traded, scope, table)
            assert (rows or set()) <= mine, (table, scope)
            found[type(scope)] += bool(rows)
    # The control: there was something to see, of both, and each scope saw its own.
    assert filled >= FILLED_MIN
    assert found[Network] >= FILLED_MIN
    assert found[Settle] >= FILLED_MIN
    assert found[Identity] >= 1


async def test_a_member_sees_what_is_the_networks_and_not_what_is_anothers(traded: Traded) -> None:
    alone = 0
    for table, personal in await traded.tables():
        if not personal or table in TOGETHER:
            continue
        users = await seen(traded, traded.member, table, "user_id")
        assert (users or set()) <= {traded.member.user_id}, table
        alone += traded.buyer.user_id in (await seen(traded, traded.buyer, table, "user_id") or set())
    assert alone >= 3  # transactions, results and keys


MOVES = (
    # Without a WHERE it reads nothing: the policies for reading do not help those for writing.
    "UPDATE tenant.{0} SET network_id = $1",
    "INSERT INTO tenant.{0} SELECT (jsonb_populate_record(t, jsonb_build_object('network_id', $1::uuid))).*"
    " FROM tenant.{0} t",
)


async def test_no_row_leaves_its_network_or_is_deleted_from_another(traded: Traded) -> None:
    buyer, seller = traded.buyer, traded.seller
    deleted = 0
    for table, _ in await traded.tables():
        for scope in (buyer, Settle((buyer.network_id,))):
            for sql in MOVES:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with traded.world.database.transaction(scope) as tx:
                        changed = await tx.execute(sql.format(table), seller.network_id)
                        assert changed.endswith(" 0"), (table, scope, sql)
                        raise asyncpg.InsufficientPrivilegeError("nothing was there to change")
            try:
                async with traded.world.database.transaction(scope) as tx:
                    sql = f"DELETE FROM tenant.{table} WHERE network_id = $1"
                    assert await tx.execute(sql, seller.network_id) == "DELETE 0", (table, scope)
            except asyncpg.InsufficientPrivilegeError:
                continue
            deleted += 1
    assert deleted >= 3  # the control: some tables can be deleted from
