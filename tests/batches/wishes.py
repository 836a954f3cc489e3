"""What a life of the machine is made of: wishes from dice, and what the oracle reads of items."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.batches.oracle import BUG, Begin, End, Oracle
from yggdrasil.errors import (
    Conflict,
    InvalidInput,
    LedgerError,
    PaymentMethodRequired,
    PaymentRequired,
    SpendLimitReached,
    Unauthenticated,
)
from yggdrasil.marketplace.batch_items import AttemptEnd
from yggdrasil.marketplace.store_run import NewAttempt, NewTransaction

NETWORKS = 4
FAULTS = ("unknown", "other hold", "no hold", "sum", "void pays", "fee", "self")
BATCH_MAX = 12
WAYS = ("batcher", "batcher", "direct", "alone")
ACTS = {
    "begin": 9,
    "finish": 7,
    "finish_at_once": 1,
    "end_holds": 4,
    "fail_over": 4,
    "top_up": 2,
    "enqueue": 3,
    "leave": 1,
    "reconcile": 1,
}
PRICES = ((10, 1000, "per_statement"), (7, 1000, "per_request"), (333, 1_000_000, "per_statement"))
ENDS = (
    # attempt, transaction, hold: what the server asks for, and what the reconciler does.
    ("completed", "COMPLETED", "posted"),
    ("completed", "COMPLETED", "voided"),
    ("cancelled", "CANCELLED", "posted"),
    ("cancelled", "CANCELLED", "voided"),
    ("failed", "FAILED", "voided"),
    ("lost", "FAILED", "expired"),
)


@dataclass(frozen=True)
class Asked:
    """A request as it was first asked for; `tokens_max` is what its hold pays for."""

    new: NewTransaction
    attempt: NewAttempt
    hold_microcents: int
    tokens_max: int
    queued: bool = False


@dataclass(frozen=True)
class Wish:
    """One item to begin. Numbers are indexes, taken modulo what there is."""

    payer: int
    seller: int
    tokens_max: int
    idempotency: int
    free: bool
    key: int
    again: str
    earlier: int


@dataclass(frozen=True)
class EndWish:
    """One attempt to end. `share`: thousandths of the tokens held for; over 1000, more than was held."""

    which: int
    how: int
    share: int
    basis_points: int
    fault: str


def wish_by(dice: random.Random) -> Wish:
    return Wish(
        payer=dice.choice([0, 0, 0, 1, 1, 1, 2, 2]) if dice.random() < 0.95 else 3,
        seller=dice.choice([0, 1, 2, 2, 4]) if dice.random() < 0.95 else 3,
        tokens_max=dice.choice([1, 9, 100, 1000, 2500, 8000]) if dice.random() < 0.97 else 0,
        idempotency=dice.choice([0, 0, 0, dice.randint(1, 20)]),
        free=dice.random() < 0.07,
        key=dice.choice([0, 0, 0, 0, 1, 1, 2, 2, 3]),
        again=dice.choice(["no"] * 30 + ["item", "hold", "attempt", "transaction", "provider"]),
        earlier=dice.randrange(1000),
    )


def end_by(dice: random.Random, faults: float) -> EndWish:
    return EndWish(
        which=dice.randrange(1000),
        how=dice.choice([0, 0, 0, *range(len(ENDS))]),
        share=dice.choice([0, 1, 333, 500, 1000, 1000]) if dice.random() > faults / 2 else 1001,
        basis_points=dice.choice([1000, 1250, 1500]),
        fault=dice.choice(FAULTS) if dice.random() < faults else dice.choice(["no"] * 5 + ["twice"]),
    )


def ends_by(dice: random.Random) -> list[EndWish]:
    """Half of all batches are without a bug in them."""
    faults = dice.choice([0, 0.3])
    return [end_by(dice, faults) for _ in range(dice.randint(1, BATCH_MAX))]


def begin_of(new: NewTransaction, attempt: NewAttempt, amount: int, queued: bool) -> Begin:
    return Begin(
        new.network_id,
        new.user_id,
        new.transaction_id,
        new.scope,
        attempt.offer.network_id,
        attempt.provider_transaction,
        attempt.attempt_id,
        attempt.hold_id,
        amount,
        new.key_id,
        new.idempotency_key,
        queued,
    )


def end_of(item: AttemptEnd) -> End:
    bill = item.bill
    return End(
        item.attempt_id,
        item.requester_network,
        item.provider_network,
        item.hold_id,
        item.hold_state,
        item.ending.attempt_state,
        bill.state.value,
        bill.total_microcents,
        bill.fee_microcents,
        bill.earnings_microcents,
        item.result is not None,
    )


def reason(error: BaseException) -> str:
    """A refusal's name in the oracle."""
    match error:
        case SpendLimitReached():
            return "limit"
        case PaymentRequired():
            return "cover"
        case PaymentMethodRequired():
            return "method"
        case Unauthenticated():
            return "key"
        case Conflict():
            return "hold_used" if error.field == "hold_id" else "conflict"
        case LedgerError() | InvalidInput() | asyncpg.CheckViolationError():
            return BUG
        case asyncpg.PostgresError() if error.sqlstate in ("YG002", "23514") or (
            isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "entries_pkey"
        ):
            return BUG
        case asyncpg.PostgresError() if error.sqlstate == "YG003":
            return "YG003"
    raise AssertionError(f"an error of no item: {error!r}") from error


def outcome_of(answer: str | BaseException) -> str:
    return answer if isinstance(answer, str) else reason(answer)


def of_oracle(oracle: Oracle) -> dict[str, Any]:
    """What `Stand.seen` must find."""
    return {
        "balances": {
            (network, "wallet"): (one.wallet, oracle.held(network))
            for network, one in oracle.networks.items()
            if one.wallet is not None
        }
        | {(network, "earnings"): (one.earned, 0) for network, one in oracle.networks.items() if one.earned},
        "holds": {place: (hold.state, hold.amount) for place, hold in oracle.holds.items()},
        "attempts": {attempt_id: one.state for attempt_id, one in oracle.attempts.items()},
        "rows": oracle.rows,
        "queued": oracle.queued,
        "results": oracle.results,
        "keys": {
            (network, key): (one.held, one.spent)
            for network, mine in oracle.networks.items()
            for key, one in mine.keys.items()
            if one.used
        },
        "transfers": oracle.transfers,
        "fees": oracle.fees,
    }
