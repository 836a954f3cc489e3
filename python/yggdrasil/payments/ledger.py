"""What may be posted, as pure arithmetic: no I/O, no clock, no randomness.

Amounts are integer micro-cents (10^-6 cent) in the range of a signed 64-bit integer. A transfer is a list of
legs; the legs of one transfer sum to zero inside every network they touch, through that network's `clearing`
account.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from yggdrasil.errors import InvalidInput, LedgerError, MoneyOverflow
from yggdrasil.kernel import MICROCENTS_MAX, MICROCENTS_PER_CENT, PLATFORM_NETWORK

LEGS_MAX: Final = 16
TOPUP_CENTS_MIN: Final = 50
TOPUP_CENTS_MAX: Final = 1_000_000


class Account(StrEnum):
    """The accounts of a network. Wallet and earnings carry a balance row; the others are sums of entries."""

    WALLET = "wallet"
    EARNINGS = "earnings"
    CLEARING = "clearing"
    FEE = "fee"
    GATEWAY = "gateway"
    ROUNDING = "rounding"


class Kind(StrEnum):
    """What a transfer is for."""

    TOPUP = "topup"
    SETTLEMENT = "settlement"


@dataclass(frozen=True, slots=True)
class Leg:
    """One entry to be: `leg` counts from 0 inside (network, transfer)."""

    network_id: UUID
    leg: int
    account: Account
    amount_microcents: int


def whole(value: object, name: str) -> int:
    """`value` as an exact integer; a bool or a float never passes for money."""
    if type(value) is not int:
        raise InvalidInput(f"{name}: a whole number of micro-cents is needed", field=name)
    return value


def positive(value: object, name: str) -> int:
    """`value` in 1 to 2^63 - 1. Nothing is ever held or posted for zero."""
    amount = whole(value, name)
    if amount <= 0:
        raise InvalidInput(f"{name}: must be at least 1 micro-cent", field=name)
    if amount > MICROCENTS_MAX:
        raise MoneyOverflow(f"{name}: must be at most {MICROCENTS_MAX} micro-cents", field=name)
    return amount


def topup_microcents(amount_cents: object) -> int:
    """Whole cents, as payment providers take them, in micro-cents."""
    cents = whole(amount_cents, "amount_cents")
    if not TOPUP_CENTS_MIN <= cents <= TOPUP_CENTS_MAX:
        raise InvalidInput(
            f"amount_cents: must be {TOPUP_CENTS_MIN} to {TOPUP_CENTS_MAX}", field="amount_cents"
        )
    return cents * MICROCENTS_PER_CENT


def month_of(at: datetime, key_id: UUID | None) -> str | None:
    """The month, in UTC, that a key's hold of this moment counts to, whenever it is settled."""
    return None if key_id is None else at.astimezone(UTC).strftime("%Y-%m")


def check_settlement(
    *,
    requester_network: UUID,
    total_microcents: int,
    provider_network: UUID,
    fee_microcents: int,
    earnings_microcents: int,
) -> None:
    """What a paid request must obey before it is posted: cost = fee + earnings, exactly; a fee of 0 is that
    of a request below ten micro-cents. (Its legs are made where they are posted: `platform.settlement_legs`.)

    Raises `LedgerError` for what only a bug of ours can ask for, a payment inside one network above all:
    one's own devices cost nothing.
    """
    total = positive(total_microcents, "total_microcents")
    earnings = positive(earnings_microcents, "earnings_microcents")
    fee = whole(fee_microcents, "fee_microcents")
    if not 0 <= fee <= total:
        raise LedgerError("fee_microcents: must be 0 to the total")
    if fee + earnings != total:
        raise LedgerError("total_microcents: must be the sum of fee and earnings")
    if requester_network == provider_network:
        raise LedgerError("provider_network: must differ from the requester's")


def topup_legs(*, network_id: UUID, amount_microcents: int) -> tuple[Leg, ...]:
    """The legs of money that came in. `gateway` is what the payment provider owes the platform, negated."""
    amount = positive(amount_microcents, "amount_microcents")
    parts = [
        (network_id, Account.WALLET, amount),
        (network_id, Account.CLEARING, -amount),
        (PLATFORM_NETWORK, Account.CLEARING, amount),
        (PLATFORM_NETWORK, Account.GATEWAY, -amount),
    ]
    return _numbered(parts)


def _numbered(parts: Iterable[tuple[UUID, Account, int]]) -> tuple[Leg, ...]:
    count: dict[UUID, int] = defaultdict(int)
    legs: list[Leg] = []
    for network_id, account, amount in parts:
        if amount:
            legs.append(Leg(network_id, count[network_id], account, amount))
            count[network_id] += 1
    check_balanced(legs)
    return tuple(legs)


def check_balanced(legs: Iterable[Leg]) -> None:
    """Raise `LedgerError` unless the legs are in range, numbered, and sum to zero in every network."""
    sums: dict[UUID, int] = defaultdict(int)
    seen: set[tuple[UUID, int]] = set()
    for leg in legs:
        if type(leg.amount_microcents) is not int or not 0 < abs(leg.amount_microcents) <= MICROCENTS_MAX:
            raise LedgerError("a leg must be a non-zero whole number in the range of the ledger")
        if not 0 <= leg.leg < LEGS_MAX or (leg.network_id, leg.leg) in seen:
            raise LedgerError("the legs of a transfer must be numbered once each, below the limit")
        seen.add((leg.network_id, leg.leg))
        sums[leg.network_id] += leg.amount_microcents
    if not sums:
        raise LedgerError("a transfer has legs")
    if any(sums.values()):
        raise LedgerError("the legs of a transfer must sum to zero in every network")


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """The books in one look.

    Sound: sum, clearing, mismatched balances and keys and unbalanced transfers are 0, and
    cost = fee + earnings. `mismatched_keys`: API keys' sums that differ from their holds and payments.
    """

    sum_microcents: int
    clearing_microcents: int
    open_holds: int
    held_microcents: int
    mismatched_balances: int
    cost_microcents: int
    fee_microcents: int
    earnings_microcents: int
    unbalanced_transfers: int
    wallets_microcents: int
    gateway_microcents: int
    mismatched_keys: int

    @property
    def sound(self) -> bool:
        """True if no rule of the books is broken."""
        return (
            self.sum_microcents == 0
            and self.clearing_microcents == 0
            and self.mismatched_balances == 0
            and self.mismatched_keys == 0
            and self.unbalanced_transfers == 0
            and self.cost_microcents == self.fee_microcents + self.earnings_microcents
        )
