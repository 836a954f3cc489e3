"""Payment methods: added, verified, used, removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.payments.support import Money
from tests.support import make_network
from yggdrasil.errors import Forbidden, InvalidInput, LimitReached, PaymentMethodRequired
from yggdrasil.kernel import Network, Role, Settle


async def may(money: Money, scope: Network) -> tuple[bool, bool]:
    """(spend, sell), asked under both scopes that may ask."""
    seen = []
    for asking in (scope, Settle((scope.network_id,))):
        answers = []
        for ask in (money.payments.require_spend_method, money.payments.require_payout_method):
            async with money.database.transaction(asking) as tx:
                try:
                    await ask(tx, scope.network_id)
                    answers.append(True)
                except PaymentMethodRequired:
                    answers.append(False)
        seen.append((answers[0], answers[1]))
    assert seen[0] == seen[1]
    return seen[0]


@pytest.mark.parametrize(
    ("purpose", "expected"), [("spend", (True, False)), ("payout", (False, True)), ("both", (True, True))]
)
async def test_a_method_serves_its_purpose_once_verified(
    money: Money, purpose: Any, expected: tuple[bool, bool]
) -> None:
    scope, other = await make_network(money.database, money.ids, money.clock), await money.network()
    assert await may(money, scope) == (False, False)
    method = await money.payments.add_method(
        scope, kind="sandbox", purpose=purpose, gateway_token="sandbox_ok"
    )
    assert (method.state, method.is_default) == ("unverified", True)
    assert await may(money, scope) == (False, False)
    verified = await money.payments.verify_method(scope, method.method_id)
    assert verified.state == "verified"
    assert await money.payments.verify_method(scope, method.method_id) == verified
    assert await may(money, scope) == expected
    await money.payments.remove_method(scope, method.method_id)
    assert await may(money, scope) == (False, False)
    assert await may(money, other) == (True, True)


@pytest.mark.parametrize("token", ["sandbox_declined", "no_such_token"])
async def test_a_refused_method_stays_unverified(money: Money, token: str) -> None:
    scope = await make_network(money.database, money.ids, money.clock)
    method = await money.payments.add_method(scope, kind="sandbox", purpose="both", gateway_token=token)
    for _ in range(5):
        with pytest.raises(PaymentMethodRequired):
            await money.payments.verify_method(scope, method.method_id)
    with pytest.raises(LimitReached):
        await money.payments.verify_method(scope, method.method_id)
    (kept,) = await money.payments.list_methods(scope)
    assert kept.state == "unverified"
    assert await may(money, scope) == (False, False)


async def test_a_test_transfer_is_proved_by_its_amount(money: Money) -> None:
    scope = await make_network(money.database, money.ids, money.clock)
    method = await money.payments.add_method(
        scope, kind="sepa", purpose="both", gateway_token="sandbox_transfer"
    )
    pending = await money.payments.verify_method(scope, method.method_id)
    assert pending.state == "pending"
    assert "proof" in pending.hint
    with pytest.raises(PaymentMethodRequired):
        await money.payments.verify_method(scope, method.method_id, proof="31")
    assert (await money.payments.list_methods(scope))[0].state == "pending"
    assert (await money.payments.verify_method(scope, method.method_id, proof="32")).state == "verified"


async def test_the_amount_cannot_be_tried_out(money: Money) -> None:
    scope = await make_network(money.database, money.ids, money.clock)
    method = await money.payments.add_method(
        scope, kind="sepa", purpose="both", gateway_token="sandbox_transfer"
    )
    for proof in (None, "1", "2", "3", "4"):
        try:
            await money.payments.verify_method(scope, method.method_id, proof=proof)
        except PaymentMethodRequired:
            continue
    with pytest.raises(LimitReached):
        await money.payments.verify_method(scope, method.method_id, proof="32")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"gateway_token": ""}, "gateway_token"),
        ({"gateway_token": "4242424242424242"}, "gateway_token"),
        ({"gateway_token": "4242-4242-4242-4242"}, "gateway_token"),
        ({"gateway_token": "with space"}, "gateway_token"),
        ({"gateway_token": "t" * 256}, "gateway_token"),
        ({"label": "l" * 65}, "label"),
        ({"label": "a\x00b"}, "label"),
        ({"kind": "card", "purpose": "payout"}, "purpose"),
    ],
)
async def test_rules_of_a_method(money: Money, values: dict[str, Any], field: str) -> None:
    scope = await make_network(money.database, money.ids, money.clock)
    body: dict[str, Any] = {"kind": "sandbox", "purpose": "both", "gateway_token": "sandbox_ok"}
    with pytest.raises(InvalidInput) as caught:
        await money.payments.add_method(scope, **(body | values))
    assert caught.value.field == field
    assert field in caught.value.detail
    assert await money.payments.list_methods(scope) == []


async def test_one_method_is_the_default(money: Money) -> None:
    scope = await make_network(money.database, money.ids, money.clock)
    for is_default in (False, False, True):
        await money.payments.add_method(
            scope, kind="sandbox", purpose="both", gateway_token="sandbox_ok", is_default=is_default
        )
        money.clock.advance(1)
    methods = await money.payments.list_methods(scope)
    assert [method.is_default for method in methods] == [False, False, True]
    await money.payments.remove_method(scope, methods[2].method_id)
    assert not any(method.is_default for method in await money.payments.list_methods(scope))


async def test_methods_have_a_limit(money: Money) -> None:
    scope = await make_network(money.database, money.ids, money.clock)
    for _ in range(20):
        await money.payments.add_method(scope, kind="sandbox", purpose="both", gateway_token="sandbox_ok")
    with pytest.raises(LimitReached):
        await money.payments.add_method(
            scope, kind="sandbox", purpose="both", gateway_token="sandbox_ok", is_default=True
        )
    methods = await money.payments.list_methods(scope, limit=100)
    assert len(methods) == 20
    assert sum(method.is_default for method in methods) == 1  # what was refused changed nothing


@pytest.mark.parametrize("role", [Role.MEMBER, Role.GUEST])
async def test_money_is_for_owners_and_admins(money: Money, role: Role) -> None:
    owner = await money.network(100)
    (method,) = await money.payments.list_methods(owner)
    scope = replace(owner, role=role)
    for call in (
        money.payments.add_method(scope, kind="sandbox", purpose="both", gateway_token="sandbox_ok"),
        money.payments.list_methods(scope),
        money.payments.verify_method(scope, method.method_id),
        money.payments.remove_method(scope, method.method_id),
        money.payments.balance(scope),
    ):
        with pytest.raises(Forbidden, match="needs the role admin"):
            await call
    assert (
        await money.payments.balance(replace(owner, role=Role.ADMIN))
    ).wallet_posted_microcents == 100_000_000
