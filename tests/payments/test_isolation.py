"""What the database itself refuses: other networks' rows, and any change of what is in the books."""

from __future__ import annotations

import asyncpg
import pytest

from tests.payments.support import CENT, Money
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.errors import NotFound
from yggdrasil.kernel import PLATFORM_NETWORK, Identity, Market, Network, Scope, Settle, System

TABLES = ("balances", "entries", "holds", "payment_methods", "payments")


async def traded(money: Money) -> tuple[Network, Network]:
    """Two networks with rows in every table of money."""
    payer, seller = await money.network(100), await money.network(100)
    hold_id = await money.hold(payer.network_id, CENT)
    await money.settle(payer.network_id, hold_id, CENT, seller.network_id, fee=100)
    await money.hold(payer.network_id, CENT)
    await money.hold(seller.network_id, CENT)
    return payer, seller


def scopes(payer: Network) -> list[Scope]:
    return [
        payer,
        Identity(payer.network_id, payer.user_id),
        Market(),
        Settle((payer.network_id, PLATFORM_NETWORK)),
        System("reconciler"),
    ]


@pytest.mark.parametrize("verb", ["UPDATE tenant.entries SET at = at", "DELETE FROM tenant.entries"])
async def test_no_scope_can_change_entries(money: Money, verb: str) -> None:
    payer, _ = await traded(money)
    for scope in scopes(payer):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with money.database.transaction(scope) as tx:
                await tx.execute(verb)


async def test_only_the_owner_may_change_entries(money: Money, admin: Login) -> None:
    rows = await as_superuser(
        money.database,
        admin,
        "SELECT grantee, privilege_type FROM information_schema.role_table_grants"
        " WHERE table_schema = 'tenant' AND table_name = 'entries'"
        " AND privilege_type NOT IN ('SELECT', 'INSERT') AND grantee <> 'ygg_owner'",
    )
    assert rows == []
    columns = await as_superuser(
        money.database,
        admin,
        "SELECT grantee FROM information_schema.column_privileges"
        " WHERE table_schema = 'tenant' AND table_name = 'entries' AND privilege_type = 'UPDATE'"
        " AND grantee <> 'ygg_owner'",
    )
    assert columns == []


@pytest.mark.parametrize("table", TABLES)
async def test_a_network_sees_its_own_rows_alone(money: Money, table: str) -> None:
    payer, seller = await traded(money)
    for scope in (payer, seller):
        async with money.database.transaction(scope) as tx:
            rows = await tx.fetch(f"SELECT network_id FROM tenant.{table}")
        assert {row["network_id"] for row in rows} == {scope.network_id}
    async with money.database.transaction(Settle((payer.network_id,))) as tx:
        rows = await tx.fetch(f"SELECT network_id FROM tenant.{table}")
    assert {row["network_id"] for row in rows} == {payer.network_id}
    async with money.database.transaction(System("reconciler")) as tx:
        rows = await tx.fetch(f"SELECT network_id FROM tenant.{table}")
    assert {row["network_id"] for row in rows} >= {payer.network_id, seller.network_id}


@pytest.mark.parametrize("table", TABLES)
async def test_market_and_login_see_no_money(money: Money, table: str) -> None:
    payer, _ = await traded(money)
    for scope in (Market(), Identity(payer.network_id, payer.user_id)):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with money.database.transaction(scope) as tx:
                await tx.fetch(f"SELECT network_id FROM tenant.{table}")


async def test_tokens_are_for_their_network_alone(money: Money) -> None:
    payer, _ = await traded(money)
    for scope in (Settle((payer.network_id,)), System("reconciler")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with money.database.transaction(scope) as tx:
                await tx.fetch("SELECT gateway_token FROM tenant.payment_methods")


async def test_a_network_cannot_write_its_own_money(money: Money) -> None:
    payer, _ = await traded(money)
    for sql in (
        "UPDATE tenant.balances SET posted_microcents = posted_microcents + 1",
        "UPDATE tenant.holds SET state = 'voided'",
        "UPDATE tenant.payments SET gateway_ref = 'x'",
        "DELETE FROM tenant.payments",
        "DELETE FROM tenant.payment_methods",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with money.database.transaction(payer) as tx:
                await tx.execute(sql)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):  # only the poster may say that a top-up succeeded
        async with money.database.transaction(payer) as tx:
            await tx.execute(
                "INSERT INTO tenant.payments (network_id, payment_id, method_id, user_id, amount_microcents,"
                " currency, state, gateway, gateway_ref, idempotency_key, asked_count, ask_at, created_at,"
                " updated_at)"
                " VALUES ($1, $2, $2, $3, 1000000, 'EUR', 'succeeded', 'sandbox', 'r', 'k', 0, $4, $4, $4)",
                payer.network_id,
                money.ids.uuid(),
                payer.user_id,
                money.clock.now(),
            )


async def test_a_poster_cannot_write_another_networks_books(money: Money) -> None:
    payer, seller = await traded(money)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with money.database.transaction(Settle((payer.network_id,))) as tx:
            await tx.execute(
                "INSERT INTO tenant.entries (network_id, transfer_id, leg, account, amount_microcents,"
                " currency, kind, at)"
                " VALUES ($1, $2, 0, 'wallet', 1, 'EUR', 'topup', $3)",
                seller.network_id,
                money.ids.uuid(),
                money.clock.now(),
            )
    async with money.database.transaction(Settle((payer.network_id,))) as tx:
        tag = await tx.execute(
            "UPDATE tenant.balances SET posted_microcents = 0, held_microcents = 0 WHERE network_id = $1",
            seller.network_id,
        )
    assert tag == "UPDATE 0"


async def test_an_ended_hold_cannot_be_written_again(money: Money) -> None:
    payer, _ = await traded(money)
    hold_id = await money.hold(payer.network_id, CENT)
    await money.void(payer.network_id, hold_id)
    async with money.database.transaction(Settle((payer.network_id,))) as tx:
        tag = await tx.execute("UPDATE tenant.holds SET state = 'posted' WHERE hold_id = $1", hold_id)
    assert tag == "UPDATE 0"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):  # nor go back to pending
        async with money.database.transaction(Settle((payer.network_id,))) as tx:
            await tx.execute("UPDATE tenant.holds SET ended_at = NULL WHERE state = 'pending'")


async def test_foreign_absent_and_removed_methods_are_one_answer(money: Money) -> None:
    mine, theirs = await money.network(), await money.network()
    (foreign,) = await money.payments.list_methods(theirs)
    (removed,) = await money.payments.list_methods(mine)
    await money.payments.remove_method(mine, removed.method_id)
    await money.method(mine)
    answers = set()
    for method_id in (foreign.method_id, removed.method_id, money.ids.uuid()):
        for call in (
            money.payments.verify_method(mine, method_id),
            money.payments.remove_method(mine, method_id),
            money.payments.top_up(
                mine, method_id=method_id, amount_cents=100, idempotency_key=str(method_id)
            ),
        ):
            with pytest.raises(NotFound) as caught:
                await call
            answers.add((caught.value.code, caught.value.detail, caught.value.field))
    assert len(answers) == 1
    assert len(await money.payments.list_methods(theirs)) == 1


async def test_an_idempotency_key_is_a_networks_own(money: Money) -> None:
    left, right = await money.network(), await money.network()
    for scope in (left, right):
        (method,) = await money.payments.list_methods(scope)
        topup = await money.payments.top_up(
            scope, method_id=method.method_id, amount_cents=100, idempotency_key="the same"
        )
        assert topup.state == "succeeded"
        assert (await money.payments.balance(scope)).wallet_posted_microcents == 100 * CENT
