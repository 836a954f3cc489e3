"""What the batched money path must do, as a few dictionaries and exact arithmetic; it shares no code with it.

Amounts are micro-cents. An operation answers what the real one must answer, and changes nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from uuid import UUID

PLATFORM = UUID("00000000-0000-0000-0000-000000000001")
BUG = "bug"
HOLD_ENDED = "YG003"
OPEN = {
    "COMPLETED": ("PROCESSING",),
    "CANCELLED": ("PENDING", "PROCESSING"),
    "FAILED": ("PENDING", "PROCESSING"),
}


def price(tokens: int, cents: int, unit: int, rounding: str, basis_points: int) -> tuple[int, int, int]:
    """(total, fee, earnings): the total rounded up, to cents or micro-cents; the fee rounded down."""
    step = 1_000_000 if rounding == "per_request" else 1
    total = -(-Fraction(tokens * cents * 1_000_000, unit * step) // 1) * step
    fee = Fraction(total * basis_points, 10_000) // 1
    return total, fee, total - fee


@dataclass
class Key:
    """An API key and what was held and spent with it, in all and in the only month of the test."""

    total_most: int | None
    month_most: int | None
    works: bool = True
    held: int = 0
    spent: int = 0
    used: bool = False

    def room(self) -> int | None:
        limits = [most for most in (self.total_most, self.month_most) if most is not None]
        return min(limits) - self.held - self.spent if limits else None


@dataclass
class Network:
    wallet: int | None = None
    """None: nothing ever came in, and there is no row."""
    earned: int = 0
    spends: bool = True
    is_paid: bool = True
    keys: dict[UUID, Key] = field(default_factory=dict)


@dataclass
class Hold:
    network: UUID
    amount: int
    key: UUID | None
    state: str = "pending"
    paid: tuple[UUID, int, int, UUID] | None = None
    """By which transfer: (transfer, total, fee, provider)."""


@dataclass(frozen=True)
class Begin:
    """An admission, as the oracle reads it."""

    network: UUID
    user: UUID
    transaction: UUID
    scope: str
    provider: UUID
    provider_transaction: UUID | None
    attempt: UUID
    hold: UUID | None
    amount: int
    key: UUID | None
    idempotency: str | None
    queued: bool = False


@dataclass(frozen=True)
class End:
    """An attempt's end, as the oracle reads it."""

    attempt: UUID
    network: UUID
    provider: UUID
    hold: UUID | None
    hold_state: str
    attempt_state: str
    state: str
    total: int
    fee: int
    earnings: int
    sealed: bool = False


@dataclass
class Attempt:
    network: UUID
    transaction: UUID
    provider: UUID
    provider_transaction: UUID | None
    hold: UUID | None
    state: str = "dispatched"
    ends: int = 0


class Oracle:
    def __init__(self) -> None:
        self.networks: dict[UUID, Network] = {PLATFORM: Network()}
        self.holds: dict[tuple[UUID, UUID], Hold] = {}
        self.attempts: dict[UUID, Attempt] = {}
        self.rows: dict[tuple[UUID, str, UUID], tuple[str, int, int, int]] = {}
        self.queued: set[tuple[UUID, UUID]] = set()
        self.idempotency: set[tuple[UUID, UUID, str]] = set()
        self.results: set[tuple[UUID, UUID]] = set()
        self.transfers: set[tuple[UUID, UUID]] = set()
        self.topped_up = self.fees = 0

    def clone(self) -> Oracle:
        """A copy to try something on. (By hand: `deepcopy` would take most of the test's time.)"""
        made = copy.copy(self)
        made.networks = {
            name: replace(one, keys={key: replace(mine) for key, mine in one.keys.items()})
            for name, one in self.networks.items()
        }
        made.holds = {place: replace(one) for place, one in self.holds.items()}
        made.attempts = {place: replace(one) for place, one in self.attempts.items()}
        made.rows, made.queued, made.results = dict(self.rows), set(self.queued), set(self.results)
        made.idempotency, made.transfers = set(self.idempotency), set(self.transfers)
        return made

    def held(self, network: UUID) -> int:
        return sum(h.amount for h in self.holds.values() if h.network == network and h.state == "pending")

    def topup(self, network: UUID, amount: int) -> None:
        self.networks[network].wallet = (self.networks[network].wallet or 0) + amount
        self.topped_up += amount

    def take_hold(self, one: Begin) -> str:
        payer = self.networks[one.network]
        if not payer.spends:
            return "method"
        if payer.wallet is None or payer.wallet - self.held(one.network) < one.amount:
            return "cover"
        if one.key is not None:
            key = payer.keys.get(one.key)
            if key is None or not key.works:
                return "key"
            room = key.room()
            if room is not None and room < one.amount:
                return "limit"
        assert one.hold is not None
        if one.amount < 1:
            return BUG
        if (one.network, one.hold) in self.holds:
            return "hold_used"
        self.holds[one.network, one.hold] = Hold(one.network, one.amount, one.key)
        if one.key is not None:
            payer.keys[one.key].held += one.amount
            payer.keys[one.key].used = True
        return "held"

    def enqueue(self, one: Begin) -> str:
        """PENDING, with nothing held."""
        payer = self.networks[one.network]
        if one.idempotency is not None:
            if (one.network, one.user, one.idempotency) in self.idempotency:
                return "conflict"
            self.idempotency.add((one.network, one.user, one.idempotency))
        assert payer.spends
        self.rows[one.network, "requester", one.transaction] = ("PENDING", 0, 0, 0)
        self.queued.add((one.network, one.transaction))
        return "queued"

    def leave(self, network: UUID, transaction: UUID, state: str) -> bool:
        place = (network, "requester", transaction)
        if self.rows[place][0] != "PENDING":
            return False
        self.rows[place] = (state, 0, 0, 0)
        self.queued.discard((network, transaction))
        return True

    def admit(self, one: Begin) -> str:
        """One by one: what is refused leaves nothing behind."""
        trial = self.clone()
        outcome = trial._admit(one)
        if outcome == "admitted":
            self.__dict__ = trial.__dict__
        return outcome

    def _admit(self, one: Begin) -> str:
        used = one.idempotency is not None and (one.network, one.user, one.idempotency) in self.idempotency
        if one.scope == "market":
            if one.provider != PLATFORM and not self.networks[one.provider].is_paid:
                refused = "payout"
            elif one.hold is not None:
                refused = self.take_hold(one)
            else:
                refused = "held" if self.networks[one.network].spends else "method"
            if refused in (BUG, "hold_used"):
                return refused
            if refused != "held":
                return "conflict" if used and not one.queued else refused
        mine, theirs = (one.network, "requester", one.transaction), None
        if one.queued:
            if self.rows[mine][0] != "PENDING":
                return "ended"
            self.queued.discard((one.network, one.transaction))
        elif mine in self.rows or used:
            return "conflict"
        self.rows[mine] = ("PROCESSING", 0, 0, 0)
        if one.provider_transaction is not None:
            theirs = (one.provider, "provider", one.provider_transaction)
            if theirs in self.rows:
                return "conflict"
            self.rows[theirs] = ("PROCESSING", 0, 0, 0)
        if one.attempt in self.attempts:
            return "conflict"
        self.attempts[one.attempt] = Attempt(
            one.network, one.transaction, one.provider, one.provider_transaction, one.hold
        )
        if one.idempotency is not None and not one.queued:
            self.idempotency.add((one.network, one.user, one.idempotency))
        return "admitted"

    def fail_over(self, previous: UUID, state: str, one: Begin, rehold: bool) -> str:
        trial = self.clone()
        outcome = trial._fail_over(previous, state, one, rehold)
        if outcome == "moved":
            self.__dict__ = trial.__dict__
        return outcome

    def _fail_over(self, previous: UUID, state: str, one: Begin, rehold: bool) -> str:
        old = self.attempts[previous]
        if old.state != "dispatched":
            known = self.attempts.get(one.attempt)
            return "ended" if known is None or known.state != "dispatched" else "again"
        self._end_attempt(old, state)
        if old.provider_transaction is not None:
            self._move(old.provider, "provider", old.provider_transaction, "FAILED", (0, 0, 0))
        self.attempts[one.attempt] = Attempt(
            one.network, one.transaction, one.provider, one.provider_transaction, one.hold
        )
        if one.provider_transaction is not None:
            self.rows[one.provider, "provider", one.provider_transaction] = ("PROCESSING", 0, 0, 0)
        if one.scope == "market":
            if one.provider != PLATFORM and not self.networks[one.provider].is_paid:
                return "payout"
            if rehold:
                if old.hold is not None:
                    self.end_hold(one.network, old.hold, "voided")
                held = self.take_hold(one)
                if held != "held":
                    return held
        return "moved"

    def end_hold(self, network: UUID, hold_id: UUID, state: str) -> bool:
        hold = self.holds.get((network, hold_id))
        if hold is None or hold.state != "pending":
            return False
        hold.state = state
        if hold.key is not None:
            self.networks[network].keys[hold.key].held -= hold.amount
        return True

    def post(self, network: UUID, hold_id: UUID, transfer: UUID, total: int, fee: int, provider: UUID) -> str:
        """posted, already, YG003 or bug."""
        hold = self.holds.get((network, hold_id))
        if hold is None or network == provider or not 0 <= fee < total:
            return BUG
        if hold.state == "posted":
            return "already" if hold.paid == (transfer, total, fee, provider) else BUG
        if hold.state != "pending":
            return HOLD_ENDED
        touched = {(one, transfer) for one in (network, provider, *([PLATFORM] if fee else []))}
        if total > hold.amount or touched & self.transfers:
            return BUG
        payer, seller = self.networks[network], self.networks[provider]
        assert payer.wallet is not None
        payer.wallet -= total
        seller.earned += total - fee
        self.fees += fee
        self.transfers |= touched
        hold.state, hold.paid = "posted", (transfer, total, fee, provider)
        if hold.key is not None:
            payer.keys[hold.key].held -= hold.amount
            payer.keys[hold.key].spent += total
        return "posted"

    def finish(self, ends: Sequence[End]) -> list[str]:
        """A batch is one transaction: if one of several is a bug, or pays from what had ended, none is
        written and each is to be asked again `alone`."""
        trial = self.clone()
        outcomes = [trial._finish(one) for one in ends]
        if {BUG, HOLD_ENDED} & set(outcomes):
            return outcomes if len(ends) == 1 else ["alone"] * len(ends)
        self.__dict__ = trial.__dict__
        return outcomes

    def _finish(self, one: End) -> str:
        attempt = self.attempts.get(one.attempt)
        scope = {one.network, one.provider, *([PLATFORM] if one.hold_state == "posted" else [])}
        if attempt is None or not {attempt.network, attempt.provider} <= scope:
            return "ended"  # an attempt of others is none
        if attempt.state != "dispatched":
            return "before" if attempt.state == one.attempt_state else "ended"
        if one.hold != attempt.hold or one.total != one.fee + one.earnings or one.total < 0:
            return BUG
        if (one.total > 0) != (one.hold is not None and one.hold_state == "posted"):
            return BUG
        self._end_attempt(attempt, one.attempt_state)
        if one.hold is not None:
            if one.hold_state == "posted":
                done = self.post(one.network, one.hold, one.attempt, one.total, one.fee, one.provider)
                if done in (BUG, HOLD_ENDED):
                    return done
            else:
                self.end_hold(one.network, one.hold, one.hold_state)
        amounts = (one.total, one.fee, one.earnings)
        moved = self._move(attempt.network, "requester", attempt.transaction, one.state, amounts)
        if attempt.provider_transaction is not None:
            self._move(attempt.provider, "provider", attempt.provider_transaction, one.state, amounts)
        if not moved and one.total:
            return BUG
        if moved and one.sealed:
            self.results.add((attempt.network, attempt.transaction))
        return "done"

    def _move(
        self, network: UUID, side: str, transaction: UUID, state: str, amounts: tuple[int, int, int]
    ) -> bool:
        row = self.rows.get((network, side, transaction))
        if row is None or row[0] not in OPEN[state]:
            return False
        self.rows[network, side, transaction] = (state, *amounts)
        return True

    def _end_attempt(self, attempt: Attempt, state: str) -> None:
        assert attempt.state == "dispatched"
        attempt.state = state
        attempt.ends += 1

    def check(self) -> None:
        """The oracle's own sanity: money is only moved, and nothing ended twice."""
        wallets = sum(one.wallet or 0 for one in self.networks.values())
        assert wallets + sum(one.earned for one in self.networks.values()) + self.fees == self.topped_up
        assert all((one.wallet or 0) >= self.held(network) for network, one in self.networks.items())
        assert all(attempt.ends <= 1 for attempt in self.attempts.values())
