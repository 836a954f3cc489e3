"""Random sequences of ledger operations on PostgreSQL against the model, audited after every step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.payments.auditor import audit
from tests.payments.model import Model, fee_of
from tests.payments.support import CENT, Money
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.errors import Conflict, LedgerError, PaymentRequired
from yggdrasil.kernel import Network

EXAMPLES = 60
STEPS = 30
NETWORKS = 3
START_CENTS = 300
amounts = st.one_of(st.integers(1, 100 * CENT), st.integers(1, 20), st.sampled_from([50 * CENT, 300 * CENT]))


class LedgerMachine(RuleBasedStateMachine):
    """Runs in a thread; what it asks of the ledger runs on the test's loop."""

    money: ClassVar[Money]
    loop: ClassVar[asyncio.AbstractEventLoop]
    admin: ClassVar[Login]
    seen: ClassVar[Counter[str]]
    holds = Bundle("holds")

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=30)

    @initialize()
    def start(self) -> None:
        # Every example begins with empty books, or one broken example would break those after it.
        for table in ("balances", "entries", "holds", "payments"):
            self.run(as_superuser(self.money.database, self.admin, f"DELETE FROM tenant.{table}"))
        self.model = Model()
        self.scopes: list[Network] = []
        self.methods: dict[UUID, UUID] = {}
        for _ in range(NETWORKS):
            scope = self.run(self.money.network(START_CENTS))
            self.scopes.append(scope)
            self.model.network(scope.network_id)
            self.model.topup(scope.network_id, START_CENTS * CENT)
            (method,) = self.run(self.money.payments.list_methods(scope))
            self.methods[scope.network_id] = method.method_id

    @rule(which=st.integers(0, NETWORKS - 1), cents=st.integers(50, 300), again=st.booleans())
    def topup(self, which: int, cents: int, again: bool) -> None:
        scope = self.scopes[which]
        key = str(self.money.ids.uuid())
        for _ in range(2 if again else 1):  # the same key twice is one top-up
            made = self.run(
                self.money.payments.top_up(
                    scope,
                    method_id=self.methods[scope.network_id],
                    amount_cents=cents,
                    idempotency_key=key,
                )
            )
            assert made.state == "succeeded"
        self.model.topup(scope.network_id, cents * CENT)

    @rule(target=holds, which=st.integers(0, NETWORKS - 1), amount=amounts)
    def hold(self, which: int, amount: int) -> Any:
        network, hold_id = self.scopes[which].network_id, self.money.ids.uuid()
        expected = self.model.hold(network, hold_id, amount)
        assert self.real_hold(network, hold_id, amount) == expected
        return hold_id if expected == "held" else multiple()

    @rule(hold_id=holds, amount=amounts)
    def hold_again(self, hold_id: UUID, amount: int) -> None:
        network = self.model.holds[hold_id].network
        expected = self.model.hold(network, hold_id, amount)
        assert self.real_hold(network, hold_id, amount) == expected

    def real_hold(self, network: UUID, hold_id: UUID, amount: int) -> str:
        outcome = "held"
        try:
            self.run(self.money.hold(network, amount, hold_id=hold_id))
        except PaymentRequired:
            outcome = "refused"
        except Conflict:
            outcome = "conflict"
        self.seen[outcome] += 1
        return outcome

    @rule(
        hold_id=holds,
        provider=st.integers(0, NETWORKS - 1),
        share=st.sampled_from([1, 2, 3, 1000, 1001]),
        basis_points=st.sampled_from([1000, 1250, 1500]),
        other=holds,
        use_other=st.sampled_from([False, False, False, True]),
        repeat=st.booleans(),
    )
    def settle(
        self,
        hold_id: UUID,
        provider: int,
        share: int,
        basis_points: int,
        other: UUID,
        use_other: bool,
        repeat: bool,
    ) -> None:
        hold = self.model.holds[hold_id]
        # 1001 thousandths: over the hold.
        total = hold.amount + 1 if share == 1001 else max(1, hold.amount * min(share, 1000) // 1000)
        transfer = other if use_other else hold_id
        fee = fee_of(total, basis_points)
        seller = self.scopes[provider].network_id
        if repeat and hold.transfer is not None and hold.provider is not None:
            transfer, total, fee, seller = hold.transfer, hold.total, hold.fee, hold.provider
        expected = self.model.settle(hold_id, transfer, total, seller, fee)
        try:
            seen = self.run(
                self.money.settle(hold.network, hold_id, total, seller, fee=fee, transfer_id=transfer)
            )
        except LedgerError:
            seen = "bug"
        assert seen == expected
        self.seen[seen] += 1

    @rule(hold_id=holds, state=st.sampled_from(["voided", "expired"]))
    def end(self, hold_id: UUID, state: str) -> None:
        network = self.model.holds[hold_id].network
        expected = self.model.end(hold_id, state)
        assert self.run(self.money.void(network, hold_id, state)) is expected  # type: ignore[arg-type]
        self.seen[state if expected else "not_ended"] += 1

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        self.model.check()
        books = self.run(audit(self.money.database))
        for network, amount in self.model.wallet.items():
            assert books.posted.get((network, "wallet"), 0) == amount
            assert books.posted.get((network, "earnings"), 0) == self.model.earnings[network]
            assert books.held.get(network, 0) == self.model.held(network)
        for hold_id, hold in self.model.holds.items():
            assert books.hold_states[hold_id] == hold.state
            assert hold.total <= hold.amount
        assert books.fees == self.model.fees
        assert -books.gateway == self.model.topped_up
        assert self.run(self.money.payments.trial_balance()).sound


async def run_machine(money: Money, admin: Login, *, control: bool = False) -> Counter[str]:
    """What happened how often. A control need not find the shortest way to fail."""
    seen: Counter[str] = Counter()
    shared = {"money": money, "admin": admin, "loop": asyncio.get_running_loop(), "seen": seen}
    machine = type("Machine", (LedgerMachine,), shared)
    limits = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        phases=[Phase.generate] if control else settings().phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)
    return seen


async def test_the_ledger_agrees_with_the_model(money: Money, admin: Login) -> None:
    seen = await run_machine(money, admin)
    print(sorted(seen.items()))
    missing = {"held", "refused", "conflict", "posted", "already", "ended", "bug", "voided", "expired"} - set(
        seen
    )
    assert not missing, "the machine went nowhere near these"


async def test_the_machine_finds_a_wrong_settlement(
    money: Money, admin: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a ledger that gives the provider one micro-cent of the platform's fee is caught."""
    from yggdrasil.payments import store

    original = store.post_settlement

    async def generous(tx: Any, **values: Any) -> Any:
        taken = 1 if values["fee_microcents"] else 0
        values["fee_microcents"] -= taken
        values["earnings_microcents"] += taken
        return await original(tx, **values)

    monkeypatch.setattr(store, "post_settlement", generous)
    with pytest.raises(AssertionError):
        await run_machine(money, admin, control=True)


async def test_the_machine_finds_a_hold_that_ends_twice(
    money: Money, admin: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a void that claims to have ended every hold is caught."""
    from yggdrasil.payments import store

    original = store.end_hold

    async def boastful(tx: Any, **values: Any) -> bool:
        await original(tx, **values)
        return True

    monkeypatch.setattr(store, "end_hold", boastful)
    with pytest.raises(AssertionError):
        await run_machine(money, admin, control=True)
