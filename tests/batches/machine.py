"""Random batches of the money path on PostgreSQL against the oracle, compared whole after every step."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.batches.oracle import BUG, Key, Network, Oracle, price
from tests.batches.stand import Stand
from tests.batches.wishes import (
    ACTS,
    BATCH_MAX,
    ENDS,
    NETWORKS,
    PRICES,
    WAYS,
    Asked,
    EndWish,
    Wish,
    begin_of,
    end_by,
    end_of,
    ends_by,
    of_oracle,
    outcome_of,
    reason,
    wish_by,
)
from tests.payments.support import CENT
from yggdrasil import heidrun
from yggdrasil.errors import (
    Conflict,
    LedgerError,
    YggdrasilError,
)
from yggdrasil.marketplace.batch_items import Admission, AttemptEnd
from yggdrasil.marketplace.batches import Batcher
from yggdrasil.marketplace.records import ProviderUnpayableError
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.store_run import Bill, Ending, SealedResult

SHRINK = bool(os.environ.get("YGG_MONEY_SHRINK"))
DEADLINE_SECONDS = 60

# What is in a batch comes from dice of its own: drawn field by field, most of them would be all the same.
seeds = st.integers(0, 2**32)


class BatchMachine(RuleBasedStateMachine):
    """Runs in a thread; what it asks of the database runs on the test's loop."""

    stand: ClassVar[Stand]
    loop: ClassVar[asyncio.AbstractEventLoop]
    seen: ClassVar[Counter[str]]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    @initialize(seed=seeds)
    def start(self, seed: int) -> None:
        self.run(self.stand.clear(seed))
        self.oracle = Oracle()
        self.begun: list[Asked] = []
        self.waiting: list[Asked] = []
        self.tokens: dict[UUID, int] = {}
        for number, scope in enumerate(self.stand.scopes):
            mine = Network(
                keys={key: Key(total, month, works) for key, total, month, works in self.stand.keys[number]}
            )
            # The last network has no method: it can neither pay nor be paid, and has no wallet.
            mine.spends = mine.is_paid = number < NETWORKS - 1
            self.oracle.networks[scope.network_id] = mine
        for number, cents in enumerate((60, 300, 50)):
            self.topup(number, cents)
        self.steps = 0
        self.begin(random.Random(seed), "batcher")

    def topup(self, which: int, cents: int) -> None:
        scope = self.stand.scopes[which]
        self.run(self.stand.topup(scope, cents))
        self.oracle.topup(scope.network_id, cents * CENT)

    @rule(seed=seeds)
    def step(self, seed: int) -> None:
        """One of all that may happen. The dice choose: rules of their own would be chosen unevenly, and some
        not at all for a whole life."""
        self.steps += 1
        dice = random.Random(f"{seed}/{self.steps}")
        (act,) = dice.choices(list(ACTS), weights=list(ACTS.values()))
        getattr(self, act)(dice)

    def top_up(self, dice: random.Random) -> None:
        self.topup(dice.randrange(NETWORKS - 1), dice.randrange(50, 120))

    # -- beginning

    def make(self, wish: Wish) -> Asked:
        stand = self.stand
        payer = stand.scopes[wish.payer]
        seller = stand.scopes[wish.seller] if wish.seller < NETWORKS else None
        rate = PRICES[wish.seller % len(PRICES)]
        # 0 tokens: a hold of nothing, which only a bug asks for.
        amount = heidrun.quote(wish.tokens_max, *rate[:2], 1000, rate[2]).total_microcents
        new, attempt = stand.request(payer, seller, rate, free=wish.free)
        keys = stand.keys[wish.payer]
        key = keys[wish.key - 1][0] if 0 < wish.key <= len(keys) and attempt.hold_id else None
        name = f"k{wish.idempotency}" if wish.idempotency else None
        new = replace(new, key_id=key, idempotency_key=name)
        if self.begun and wish.again != "no":
            first = self.begun[wish.earlier % len(self.begun)]
            if wish.again == "item":
                return first
            if wish.again == "hold" and attempt.hold_id is not None and first.attempt.hold_id is not None:
                attempt = replace(attempt, hold_id=first.attempt.hold_id)
            elif wish.again == "attempt":
                attempt = replace(attempt, attempt_id=first.attempt.attempt_id)
            elif wish.again == "transaction":
                new = replace(new, transaction_id=first.new.transaction_id)
            elif wish.again == "provider" and attempt.provider_transaction is not None:
                attempt = replace(attempt, provider_transaction=first.attempt.provider_transaction)
        return Asked(new, attempt, amount, wish.tokens_max)

    def begin(self, dice: random.Random, way: str | None = None) -> None:
        way, waiting, asked = way or dice.choice(WAYS), dice.randrange(4), list[Asked]()
        for _ in range(dice.randint(1, BATCH_MAX)):
            asked.append(self.make(wish_by(dice)))
            self.begun.append(asked[-1])
        for number in range(min(waiting, len(self.waiting))):
            one = self.waiting[-1 - number]
            if way != "direct" or number == 0:  # the same twice, too
                asked.insert(number, one)
        items = [
            Admission(one.new, one.attempt, one.hold_microcents, one.queued, self.stand.clock.now())
            for one in asked
        ]
        seen = self.send(self.stand.records._admissions, "admit_batch", items, way)
        expected = [
            self.oracle.admit(begin_of(one.new, one.attempt, one.hold_microcents, one.queued))
            for one, _ in seen
        ]
        if way == "direct" and len(items) > 1:
            expected = ["alone" if outcome == BUG else outcome for outcome in expected]
        assert [outcome for _, outcome in seen] == expected, items
        for item, outcome in seen:
            self.seen[f"begin {outcome}"] += 1
            if outcome == "admitted":
                made = next(one for one in asked if one.attempt is item.attempt)
                self.tokens[item.attempt.attempt_id] = made.tokens_max

    def enqueue(self, dice: random.Random) -> None:
        wish = wish_by(dice)
        wish = replace(wish, payer=wish.payer % (NETWORKS - 1), key=0, again="no", free=False)
        asked = replace(self.make(wish), queued=True)
        try:
            self.run(self.stand.enqueue(asked.new))
            outcome = "queued"
        except Conflict:
            outcome = "conflict"
        assert outcome == self.oracle.enqueue(begin_of(asked.new, asked.attempt, 0, True))
        self.seen[outcome] += 1
        if outcome == "queued":
            self.waiting.append(asked)

    def leave(self, dice: random.Random) -> None:
        if not self.waiting:
            return
        new = dice.choice(self.waiting).new
        state = dice.choice([State.CANCELLED, State.FAILED])
        left = self.run(self.stand.records.leave(new.network_id, new.transaction_id, state, "x"))
        assert left == self.oracle.leave(new.network_id, new.transaction_id, state.value)
        self.seen[f"left {left}"] += 1

    # -- ending

    def make_ends(self, wishes: list[EndWish]) -> list[AttemptEnd]:
        """Mostly of attempts that are open, each once."""
        still = [place for place, one in self.oracle.attempts.items() if one.state == "dispatched"]
        every, items = list(self.oracle.attempts), list[AttemptEnd]()
        for wish in wishes if every else []:
            if not still and wish.which % 3:
                continue
            mine = (
                still.pop(wish.which % len(still))
                if still and wish.which % 9
                else every[wish.which % len(every)]
            )
            items += [self.make_end(wish, mine)] * (2 if wish.fault == "twice" else 1)
        return items

    def make_end(self, wish: EndWish, attempt_id: UUID) -> AttemptEnd:
        attempt = self.oracle.attempts[attempt_id]
        attempt_state, state, hold_state = ENDS[wish.how]
        total = fee = earnings = 0
        if attempt.hold is not None and hold_state == "posted":
            tokens = self.tokens[attempt_id]
            rate = self.stand.rates[attempt_id]
            used = tokens + 1 if wish.share > 1000 else tokens * wish.share // 1000
            bill = heidrun.settle(used, *rate[:2], wish.basis_points, rate[2])
            total, fee, earnings = bill.total_microcents, bill.fee_microcents, bill.earnings_microcents
            assert (total, fee, earnings) == price(used, *rate, wish.basis_points), "the bill"
        if not total and hold_state == "posted":
            hold_state = "voided"
        network, provider, hold = attempt.network, attempt.provider, attempt.hold
        match wish.fault:
            case "unknown":
                attempt_id = self.stand.ids.uuid()
            case "other hold":
                mine = [h for n, h in self.oracle.holds if n == network]
                hold = mine[wish.share % len(mine)] if mine else hold
            case "no hold":
                hold = None
            case "sum":
                earnings += 1
            case "void pays" if total:
                hold_state = "voided"
            case "fee" if total:
                fee, earnings = total, 0
            case "self" if attempt.hold is not None:
                provider = network
        bill = Bill(State(state), 1, 1, total, fee, earnings)
        ending = Ending(attempt_state, None, 1, 1, 1, 1, self.stand.clock.now(), None, None)
        result = SealedResult(b"n" * 12, b"s", self.stand.clock.now() + timedelta(minutes=5))
        return AttemptEnd(
            attempt_id,
            network,
            provider,
            hold,
            hold_state,
            ending,
            bill,
            result if state != "FAILED" else None,
        )

    def finish(self, dice: random.Random) -> None:
        way, items = dice.choice(WAYS), self.make_ends(ends_by(dice))
        if not items:
            return
        if way == "batcher":
            seen = self.send(self.stand.records._endings, "finish_batch", items, way)
            ordered = [item for item, _ in seen]
            expected = self.oracle.finish([end_of(item) for item in ordered])
            if "alone" in expected:
                expected = [self.oracle.finish([end_of(item)])[0] for item in ordered]
            outcomes = [outcome for _, outcome in seen]
        else:
            outcomes = [
                outcome for _, outcome in self.send(self.stand.records._endings, "finish_batch", items, way)
            ]
            if way == "alone":
                expected = [self.oracle.finish([end_of(item)])[0] for item in items]
            else:
                expected = self.oracle.finish([end_of(item) for item in items])
        assert outcomes == expected, [end_of(item) for item in items]
        self.seen.update(f"finish {outcome}" for outcome in outcomes)

    def finish_at_once(self, dice: random.Random) -> None:
        """Through the door, all at the same time: each attempt once, so that the order cannot matter."""
        wishes = [replace(wish, fault="no") for wish in ends_by(dice)]
        items = {item.attempt_id: item for item in self.make_ends(wishes)}
        outcomes = self.run(self.stand.submit_all(self.stand.records._endings, list(items.values())))
        for item, outcome in zip(items.values(), outcomes, strict=True):
            assert outcome_of(outcome) == self.oracle.finish([end_of(item)])[0]
            self.seen["finish at once"] += 1

    def end_holds(self, dice: random.Random) -> None:
        """The ledger by itself, as the reconciler uses it: holds end under their attempts."""
        wishes = [replace(end_by(dice, 0.1), how=0, fault="no") for _ in range(dice.randint(1, 4))]
        for item in self.make_ends(wishes):
            if item.hold_id is not None:
                self.end_hold(
                    dice, item, item.hold_id, dice.choice(["voided", "expired", "posted", "posted"])
                )

    def end_hold(self, dice: random.Random, item: AttemptEnd, hold_id: UUID, state: str) -> None:
        payer, seller, bill = item.requester_network, item.provider_network, item.bill
        if state != "posted":
            ended = self.run(self.stand.money.void(payer, hold_id, state))  # type: ignore[arg-type]
            assert ended == self.oracle.end_hold(payer, hold_id, state)
            self.seen[f"hold {ended}"] += 1
            return
        if not bill.total_microcents:
            return
        # Now and then under the id of an attempt that is not its own.
        transfer = item.attempt_id if dice.random() < 0.8 else dice.choice(list(self.oracle.attempts))
        total, fee = bill.total_microcents, bill.fee_microcents
        try:
            outcome = self.run(
                self.stand.money.settle(payer, hold_id, total, seller, fee=fee, transfer_id=transfer)
            )
        except LedgerError:
            outcome = BUG
        expected = self.oracle.post(payer, hold_id, transfer, total, fee, seller)
        assert outcome == {"YG003": "ended"}.get(expected, expected)
        self.seen[f"post {outcome}"] += 1

    # -- between

    def fail_over(self, dice: random.Random) -> None:
        wish, state, rehold = wish_by(dice), dice.choice(["busy", "failed"]), dice.random() < 0.7
        candidates = [one for one in self.begun if one.attempt.attempt_id in self.tokens]
        if not candidates:
            return
        previous = dice.choice(candidates[-12:])
        old = self.oracle.attempts[previous.attempt.attempt_id]
        if old.transaction != previous.new.transaction_id or previous.new.scope != "market":
            return
        payers = [scope.network_id for scope in self.stand.scopes]
        payer = payers.index(previous.new.network_id)
        seller = wish.seller if wish.seller != payer else NETWORKS
        made = self.make(
            replace(wish, payer=payer, seller=seller, free=False, again="no", tokens_max=wish.tokens_max or 1)
        )
        attempt = replace(made.attempt, ordinal=2)
        if not rehold:
            attempt = replace(attempt, hold_id=previous.attempt.hold_id)
        amount = made.hold_microcents
        ending = Ending(state, "x", None, None, None, None, self.stand.clock.now())
        outcome = "moved"
        try:
            moved = self.run(
                self.stand.records.fail_over(
                    previous.new,
                    previous.attempt,
                    ending,
                    attempt,
                    rehold_microcents=amount if rehold else None,
                )
            )
            outcome = "moved" if moved else "ended"
        except ProviderUnpayableError:
            outcome = "payout"
        except YggdrasilError as error:
            outcome = reason(error)
        one = begin_of(previous.new, attempt, amount, False)
        assert outcome == self.oracle.fail_over(previous.attempt.attempt_id, state, one, rehold)
        self.seen[f"failover {outcome}"] += 1
        if outcome == "moved":
            self.begun.append(Asked(previous.new, attempt, amount, made.tokens_max))
            self.tokens[attempt.attempt_id] = (
                made.tokens_max if rehold else self.tokens[previous.attempt.attempt_id]
            )

    def reconcile(self, dice: random.Random) -> None:
        """What is past its deadline, or of a process that was there before."""
        if dice.random() < 0.5:
            self.stand.restart()
        else:
            self.stand.clock.advance(DEADLINE_SECONDS + 1)
        ended = self.run(self.stand.reconcile())
        expected = self.oracle.reconcile()
        assert ended == expected, (ended, expected)
        self.seen["reconciled"] += ended
        assert self.run(self.stand.money.payments.trial_balance()).sound

    # -- sending

    def send(
        self, batcher: Batcher[Any], function: str, items: Sequence[Any], way: str
    ) -> list[tuple[Any, str]]:
        """Each item's outcome, in the order in which the database saw them."""
        if way == "batcher":
            answers = self.run(self.stand.send(batcher, list(items)))
            return [(item, outcome_of(answer)) for item, answer in answers]
        parts = [[item] for item in items] if way == "alone" else [list(items)]
        seen: list[tuple[Any, str]] = []
        for part in parts:
            outcomes = self.run(self.stand.call(function, part))
            seen += [(item, outcome_of(one)) for item, one in zip(part, outcomes, strict=True)]
        return seen

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "oracle"):
            return
        self.oracle.check()
        assert self.run(self.stand.seen()) == of_oracle(self.oracle)


async def run_machine(stand: Stand, *, examples: int, steps: int, control: bool = False) -> Counter[str]:
    """What happened how often. A control need not find the shortest way to fail."""
    seen: Counter[str] = Counter()
    shared = {"stand": stand, "loop": asyncio.get_running_loop(), "seen": seen}
    machine: Any = type("Machine", (BatchMachine,), shared)
    if stand.ids.seed:
        machine = seeded(stand.ids.seed)(machine)
    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        # The seed is enough to see it again; the shortest way to it takes minutes.
        phases=[Phase.generate, *([Phase.shrink] if SHRINK and not control else [])],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)
    return seen
