"""A server that dies, or a caller that goes, at any step of a top-up: no money is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.payments.brittle import Brittle, Crash
from tests.payments.support import CENT, Money
from tests.payments.test_topups import HOUR, charges, posted, reconciler
from yggdrasil.kernel import System
from yggdrasil.payments.service import Payments
from yggdrasil.payments.topups import TopupReconciler
from yggdrasil.ports import Charge


@pytest.mark.parametrize("token", ["sandbox_ok", "sandbox_timeout", "sandbox_charge_declined"])
@pytest.mark.parametrize("retry", [False, True], ids=["gone", "retried"])
async def test_a_crash_at_any_step_loses_nothing(money: Money, token: str, retry: bool) -> None:
    scope = await money.network()
    method_id = await money.method(scope, token)
    taken = 0
    for die_at in range(1, 100):
        brittle = Brittle(money.database, money.gateway, die_at)
        payments = Payments(brittle, brittle, money.clock, money.ids, money.node)  # type: ignore[arg-type]
        body: dict[str, Any] = {
            "method_id": method_id,
            "amount_cents": 500,
            "idempotency_key": f"key {die_at}",
        }
        died = False
        try:
            await payments.top_up(scope, **body)
        except Crash:
            died = True
        if retry:
            await money.payments.top_up(scope, **body)
        for _ in range(3):  # the reconciler dies too, once, somewhere
            money.clock.advance(HOUR + 60)
            weak = Brittle(money.database, money.gateway, die_at)
            try:
                await TopupReconciler(weak, weak, money.clock).run_once()  # type: ignore[arg-type]
            except Crash:
                continue
        money.clock.advance(2 * HOUR)
        await reconciler(money).run_once()
        async with money.database.transaction(System("test")) as tx:
            states = {row["state"] for row in await tx.fetch("SELECT state FROM tenant.payments")}
        assert states <= {"succeeded", "failed"}, f"step {die_at} left an open top-up"
        taken = sum(amount for amount, state in await charges(money) if state == "succeeded")
        assert await posted(money, scope) == taken * CENT, f"step {die_at}"
        if not died:
            assert die_at > 10
            break
    else:
        pytest.fail("more steps than expected")
    if token != "sandbox_charge_declined":
        assert taken >= 500


async def test_a_cancelled_caller_loses_nothing(money: Money) -> None:
    """The client hangs up while the gateway thinks."""
    scope = await money.network()
    method_id = await money.method(scope, "sandbox_ok")
    reached, go = asyncio.Event(), asyncio.Event()

    class Slow:
        name = "sandbox"

        async def charge(self, **values: Any) -> Charge:
            assert money.gateway is not None
            charge = await money.gateway.charge(**values)
            reached.set()
            await go.wait()
            return charge

    payments = Payments(money.database, Slow(), money.clock, money.ids, money.node)  # type: ignore[arg-type]
    task = asyncio.create_task(
        payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
    )
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await money.payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
    assert again.state == "charging"
    assert await posted(money, scope) == 0
    money.clock.advance(60)
    assert (await reconciler(money).run_once()).succeeded == 1
    assert await posted(money, scope) == 500 * CENT


async def test_the_gateways_late_word_wins_over_giving_up(money: Money) -> None:
    """The caller froze before the charge went out, and the reconciler gave the top-up up meanwhile."""
    scope = await money.network()
    method_id = await money.method(scope, "sandbox_ok")

    class Frozen:
        name = "sandbox"

        async def charge(self, **values: Any) -> Charge:
            assert money.gateway is not None
            money.clock.advance(2 * HOUR)
            assert (await reconciler(money).run_once()).failed == 1
            return await money.gateway.charge(**values)

    payments = Payments(money.database, Frozen(), money.clock, money.ids, money.node)  # type: ignore[arg-type]
    topup = await payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
    assert (topup.state, topup.failure_code) == ("succeeded", None)
    assert await posted(money, scope) == 500 * CENT


# The process is killed after: `created`, `charging`, the charge; and before and after the posting commits.
@pytest.mark.parametrize("die_at", [3, 6, 8, 10, 11])
async def test_a_killed_process_loses_nothing(money: Money, die_at: int) -> None:
    scope = await money.network()
    method_id = await money.method(scope, "sandbox_ok")
    pools = money.database.pools
    address = pools["ygg_network"].address
    order = {
        "address": [address.host, address.port, address.database],
        "passwords": {role: pool.login.password for role, pool in pools.items()},
        "scope": [str(scope.network_id), str(scope.user_id)],
        "method_id": str(method_id),
        "die_at": die_at,
    }
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.payments.victim",
        stdin=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    await victim.communicate(json.dumps(order).encode())
    assert victim.returncode == -signal.SIGKILL
    money.clock.advance(60)
    await reconciler(money).run_once()
    money.clock.advance(2 * HOUR)
    await reconciler(money).run_once()
    again = await money.payments.top_up(scope, method_id=method_id, amount_cents=500, idempotency_key="key")
    assert again.state == ("failed" if die_at <= 6 else "succeeded")
    taken = await charges(money)
    assert taken == ([] if die_at <= 6 else [(500, "succeeded")])
    assert await posted(money, scope) == sum(amount for amount, _ in taken) * CENT
