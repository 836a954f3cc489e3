"""Top-ups: a gateway that misbehaves, a caller that repeats itself, a server that dies at any step."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.payments.auditor import audit
from tests.payments.support import CENT, Money
from tests.support import ManualClock, SeededIds
from yggdrasil.adapters.sandbox import SandboxGateway
from yggdrasil.db import Database
from yggdrasil.errors import (
    ConfigurationError,
    Conflict,
    Forbidden,
    InvalidInput,
    LimitReached,
    PaymentMethodRequired,
    Unavailable,
)
from yggdrasil.kernel import Network, Role, System
from yggdrasil.payments.topups import Reconciled, TopupReconciler, TopUps
from yggdrasil.payments.views import TopUp
from yggdrasil.ports import Charge

HOUR = 3600


def reconciler(money: Money, gateway: Any = None) -> TopupReconciler:
    asked: Any = gateway or money.gateway
    return TopupReconciler(money.database, asked, money.clock)


async def start(money: Money, token: str, cents: int = 500, key: str = "key") -> tuple[Network, UUID, TopUp]:
    scope = await money.network()
    method_id = await money.method(scope, token)
    topup = await money.payments.top_up(scope, method_id=method_id, amount_cents=cents, idempotency_key=key)
    return scope, method_id, topup


async def posted(money: Money, scope: Network) -> int:
    await audit(money.database)
    return (await money.payments.balance(scope)).wallet_posted_microcents


async def charges(money: Money) -> list[tuple[int, str]]:
    """What the gateway really took."""
    async with money.database.transaction(System("test")) as tx:
        rows = await tx.fetch("SELECT amount_cents, state FROM platform.sandbox_charges ORDER BY created_at")
    return [(row["amount_cents"], row["state"]) for row in rows]


async def test_a_top_up_fills_the_wallet(money: Money) -> None:
    scope, method_id, topup = await start(money, "sandbox_ok")
    assert (topup.state, topup.amount_cents, topup.method_id) == ("succeeded", 500, method_id)
    assert await posted(money, scope) == 500 * CENT
    assert await reconciler(money).run_once() == Reconciled(0, 0, 0, 0, 0, 0)


async def test_the_same_key_answers_the_same(money: Money) -> None:
    scope, method_id, topup = await start(money, "sandbox_ok")
    money.clock.advance(5)
    again = await money.payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
    assert again == topup
    for other in ({"amount_cents": 501}, {"method_id": money.ids.uuid()}):
        body: dict[str, Any] = {"method_id": method_id, "amount_cents": 500, "idempotency_key": "key"} | other
        with pytest.raises(Conflict):
            await money.payments.top_up(scope, **body)
    await money.payments.remove_method(scope, method_id)
    assert (
        await money.payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
        == topup
    )
    assert await charges(money) == [(500, "succeeded")]


async def test_a_hundred_at_once_are_one(money: Money) -> None:
    scope = await money.network()
    method_id = await money.method(scope)
    seen = await asyncio.gather(
        *(
            money.payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
            for _ in range(100)
        )
    )
    assert len({topup.payment_id for topup in seen}) == 1
    assert {topup.state for topup in seen} <= {"created", "charging", "succeeded"}
    assert await charges(money) == [(500, "succeeded")]
    assert await posted(money, scope) == 500 * CENT


async def test_a_declined_charge_fails(money: Money) -> None:
    scope, _, topup = await start(money, "sandbox_charge_declined")
    assert (topup.state, topup.failure_code) == ("failed", "declined")
    assert await posted(money, scope) == 0


async def test_an_answer_that_is_lost_is_asked_for(money: Money) -> None:
    scope, method_id, topup = await start(money, "sandbox_timeout")
    assert topup.state == "unknown"
    assert await posted(money, scope) == 0
    assert (await reconciler(money).run_once()).found == 0  # not at once: the answer may still be on its way
    money.clock.advance(60)
    assert await reconciler(money).run_once() == Reconciled(1, 1, 0, 0, 0, 0)
    assert await posted(money, scope) == 500 * CENT
    again = await money.payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
    assert again.state == "succeeded"
    money.clock.advance(HOUR)
    assert (await reconciler(money).run_once()).found == 0
    assert await charges(money) == [(500, "succeeded")]


async def test_a_charge_that_never_arrived_is_given_up(money: Money) -> None:
    scope, method_id, topup = await start(money, "sandbox_lost")
    assert topup.state == "unknown"
    money.clock.advance(60)
    assert await reconciler(money).run_once() == Reconciled(1, 0, 0, 1, 0, 0)
    money.clock.advance(HOUR)
    assert await reconciler(money).run_once() == Reconciled(1, 0, 1, 0, 0, 0)
    again = await money.payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
    assert (again.state, again.failure_code) == ("failed", "not_charged")
    assert await posted(money, scope) == 0


@pytest.mark.parametrize("token", ["sandbox_late", "sandbox_pending"])
async def test_a_charge_that_shows_up_late_is_found(money: Money, token: str) -> None:
    scope, _, topup = await start(money, token)
    assert topup.state == "unknown"
    money.clock.advance(45)
    assert (
        await reconciler(money).run_once()
    ).deferred == 1  # the gateway does not know it yet: not lost for that
    money.clock.advance(60)
    assert (await reconciler(money).run_once()).succeeded == 1
    assert await posted(money, scope) == 500 * CENT


async def test_a_slow_gateway_is_waited_for_within_bounds(money: Money) -> None:
    scope = await money.network()
    method_id = await money.method(scope, "sandbox_slow")

    async def forever(_seconds: float) -> None:
        await asyncio.Event().wait()

    gateway = SandboxGateway(money.database, money.clock, environment="test", pause=forever)
    topups = TopUps(money.database, gateway, money.clock, money.ids, charge_seconds_max=0.01)
    topup = await topups.process(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
    assert topup.state == "unknown"

    async def none(_seconds: float) -> None:
        return

    gateway = SandboxGateway(money.database, money.clock, environment="test", pause=none)
    topups = TopUps(money.database, gateway, money.clock, money.ids)
    topup = await topups.process(scope, method_id=method_id, amount_cents=600, idempotency_key="another")
    assert topup.state == "succeeded"


class Stub:
    """A gateway of the test's own."""

    name = "sandbox"

    def __init__(self, answer: Charge | Exception | None) -> None:
        self.answer = answer

    async def find_charge(self, _key: UUID) -> Charge | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_gateway_that_is_away_is_asked_less_and_less_often(money: Money) -> None:
    await start(money, "sandbox_timeout")
    away = reconciler(money, Stub(Unavailable()))
    asked = 0
    for _ in range(24 * 60):
        money.clock.advance(60)
        asked += (await away.run_once()).deferred
    assert 24 <= asked <= 40  # a day long: never given up, hourly in the end
    assert (await reconciler(money).run_once()).found in (0, 1)
    money.clock.advance(HOUR)
    assert (await reconciler(money).run_once()).succeeded == 1


async def test_another_amount_is_never_posted(money: Money) -> None:
    scope, _, _ = await start(money, "sandbox_timeout")
    for charge in (Charge("succeeded", "ref", 499, "EUR"), Charge("succeeded", "ref", 500, "USD")):
        money.clock.advance(2 * HOUR)
        assert await reconciler(money, Stub(charge)).run_once() == Reconciled(1, 0, 0, 0, 1, 0)
    assert await posted(money, scope) == 0


async def test_one_bad_row_does_not_stop_the_others(money: Money) -> None:
    for _ in range(3):
        await start(money, "sandbox_timeout")
    money.clock.advance(60)
    worker = reconciler(money)
    conclude, calls = worker._conclude, 0

    async def breaks_once(*args: Any) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError
        return await conclude(*args)

    worker._conclude = breaks_once  # type: ignore[method-assign,assignment]
    assert await worker.run_once() == Reconciled(3, 2, 0, 0, 0, 1)


async def test_the_reconciler_sees_every_network(money: Money) -> None:
    """Fails when the job sees none of two networks."""
    scopes = [(await start(money, "sandbox_timeout"))[0] for _ in range(2)]
    money.clock.advance(60)
    seen = await reconciler(money).run_once()
    assert (seen.found, seen.succeeded) == (2, 2)
    for scope in scopes:
        assert await posted(money, scope) == 500 * CENT


async def test_reconcilers_may_run_side_by_side(money: Money) -> None:
    scope, _, _ = await start(money, "sandbox_timeout")
    money.clock.advance(60)
    seen = await asyncio.gather(*(reconciler(money).run_once() for _ in range(6)))
    assert sum(round_.succeeded for round_ in seen) == 1
    assert await posted(money, scope) == 500 * CENT


async def test_rules_of_a_top_up(money: Money) -> None:
    scope = await money.network()
    method_id = await money.method(scope)
    unverified = await money.payments.add_method(
        scope, kind="sandbox", purpose="both", gateway_token="sandbox_ok"
    )
    for values, field in (
        ({"amount_cents": 49}, "amount_cents"),
        ({"amount_cents": 1_000_001}, "amount_cents"),
        ({"amount_cents": True}, "amount_cents"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "k" * 256}, "idempotency_key"),
        ({"idempotency_key": "a\nb"}, "idempotency_key"),
    ):
        body: dict[str, Any] = {"method_id": method_id, "amount_cents": 500, "idempotency_key": "key"}
        with pytest.raises(InvalidInput) as caught:
            await money.payments.top_up(scope, **(body | values))
        assert caught.value.field == field
    with pytest.raises(PaymentMethodRequired):
        await money.payments.top_up(
            scope, method_id=unverified.method_id, amount_cents=500, idempotency_key="key"
        )
    with pytest.raises(Forbidden):
        await money.payments.top_up(
            replace(scope, role=Role.MEMBER), method_id=method_id, amount_cents=500, idempotency_key="key"
        )
    assert await charges(money) == []


async def test_open_top_ups_have_a_limit(money: Money) -> None:
    scope = await money.network()
    method_id = await money.method(scope, "sandbox_timeout")
    for number in range(10):
        await money.payments.top_up(scope, method_id=method_id, amount_cents=50, idempotency_key=str(number))
    with pytest.raises(LimitReached):
        await money.payments.top_up(scope, method_id=method_id, amount_cents=50, idempotency_key="one more")


def test_the_sandbox_is_refused_in_production(database: Database, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError):
        SandboxGateway(database, clock, environment="production")


async def test_the_sandbox_remembers_and_keeps_keys_apart(money: Money, ids: SeededIds) -> None:
    key = ids.uuid()
    first = SandboxGateway(money.database, money.clock, environment="test")
    charge = await first.charge(token="sandbox_ok", amount_cents=500, currency="EUR", idempotency_key=key)
    restarted = SandboxGateway(money.database, money.clock, environment="test")
    assert await restarted.find_charge(key) == charge
    assert (
        await restarted.charge(token="sandbox_ok", amount_cents=500, currency="EUR", idempotency_key=key)
        == charge
    )
    with pytest.raises(Conflict):
        await restarted.charge(token="sandbox_ok", amount_cents=501, currency="EUR", idempotency_key=key)
    assert await charges(money) == [(500, "succeeded")]
