"""The arithmetic of postings, against exact fractions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.payments.model import fee_of
from yggdrasil.errors import InvalidInput, LedgerError, MoneyOverflow
from yggdrasil.kernel import MICROCENTS_MAX, PLATFORM_NETWORK
from yggdrasil.payments import ledger
from yggdrasil.payments.ledger import Account, Leg

A, B = UUID(int=10), UUID(int=11)
totals = st.one_of(st.integers(1, MICROCENTS_MAX), st.integers(1, 100), st.just(MICROCENTS_MAX))


def sums(legs: tuple[Leg, ...]) -> dict[UUID, int]:
    found: dict[UUID, int] = defaultdict(int)
    for leg in legs:
        found[leg.network_id] += leg.amount_microcents
    return found


@given(total=totals, basis_points=st.integers(1000, 1500), seller=st.sampled_from([B, PLATFORM_NETWORK]))
def test_settlements_at_the_platforms_rates_are_accepted(total: int, basis_points: int, seller: UUID) -> None:
    fee = fee_of(total, basis_points)
    ledger.check_settlement(
        requester_network=A,
        total_microcents=total,
        provider_network=seller,
        fee_microcents=fee,
        earnings_microcents=total - fee,
    )
    # No party is rounded to nothing, and the platform never takes a part of a micro-cent more than its rate.
    assert total - fee >= Fraction(total * 85, 100)
    assert 0 <= Fraction(total * basis_points, 10_000) - fee < 1


@given(
    cents=st.integers(ledger.TOPUP_CENTS_MIN, ledger.TOPUP_CENTS_MAX),
    network=st.sampled_from([A, PLATFORM_NETWORK]),
)
def test_top_ups_sum_to_zero_everywhere(cents: int, network: UUID) -> None:
    amount = ledger.topup_microcents(cents)
    assert Fraction(amount, 1_000_000) == cents
    legs = ledger.topup_legs(network_id=network, amount_microcents=amount)
    assert not any(sums(legs).values())
    assert legs[0] == Leg(network, 0, Account.WALLET, amount)


@pytest.mark.parametrize(
    ("total", "fee", "earnings", "error"),
    [
        (0, 0, 0, InvalidInput),
        (-1, 0, -1, InvalidInput),
        (10, 10, 0, InvalidInput),
        (10, -1, 11, LedgerError),
        (10, 11, 1, LedgerError),
        (10, 1, 8, LedgerError),
        (10, 1, 10, LedgerError),
        (MICROCENTS_MAX + 1, 1, MICROCENTS_MAX, MoneyOverflow),
        (10.0, 1, 9, InvalidInput),
        (10, True, 9, InvalidInput),
    ],
)
def test_wrong_settlements_are_refused(total: int, fee: int, earnings: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        ledger.check_settlement(
            requester_network=A,
            total_microcents=total,
            provider_network=B,
            fee_microcents=fee,
            earnings_microcents=earnings,
        )


def test_unbalanced_legs_are_refused() -> None:
    good = ledger.topup_legs(network_id=A, amount_microcents=5)
    ledger.check_balanced(good)
    for bad in (
        (),
        good[:-1],
        (replace(good[0], amount_microcents=6), *good[1:]),
        (replace(good[0], amount_microcents=0), *good[1:]),
        (replace(good[0], leg=1), *good[1:]),
        (replace(good[0], leg=16), *good[1:]),
        # zero over all networks is not enough: each must be
        (Leg(A, 0, Account.WALLET, 5), Leg(B, 0, Account.CLEARING, -5)),
    ):
        with pytest.raises(LedgerError):
            ledger.check_balanced(bad)
