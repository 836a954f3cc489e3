"""Money against fractions: every total, every part, every inverse, to the last micro-cent."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from yggdrasil import heidrun
from yggdrasil.errors import InvalidInput, MoneyOverflow
from yggdrasil.kernel import MICROCENTS_MAX, MICROCENTS_PER_CENT

ROUNDINGS = st.sampled_from(["per_request", "per_statement"])
UNITS = st.sampled_from([1_000, 1_000_000])
FEES = st.integers(1_000, 1_500)
INT64 = st.integers(0, 2**63 - 1)
TOKENS = st.one_of(st.integers(0, 10_000_000), INT64)
PRICES = st.one_of(st.integers(0, 10_000), INT64)


def exact_total(tokens: int, price_cents: int, unit_tokens: int, rounding: str) -> int:
    cents = Fraction(tokens * price_cents, unit_tokens)
    if rounding == "per_request":
        return ceil(cents) * MICROCENTS_PER_CENT
    return ceil(cents * MICROCENTS_PER_CENT)


class TestSettle:
    @given(tokens=TOKENS, price=PRICES, unit=UNITS, fee=FEES, rounding=ROUNDINGS)
    @example(tokens=0, price=5, unit=1_000, fee=1_250, rounding="per_request")
    @example(tokens=1, price=1, unit=1_000_000, fee=1_000, rounding="per_request")
    @example(tokens=1, price=1, unit=1_000_000, fee=1_000, rounding="per_statement")
    @example(tokens=2**63 - 1, price=2**63 - 1, unit=1_000, fee=1_500, rounding="per_statement")
    def test_equals_the_exact_fraction(
        self, tokens: int, price: int, unit: int, fee: int, rounding: str
    ) -> None:
        total = exact_total(tokens, price, unit, rounding)
        if total > MICROCENTS_MAX:
            with pytest.raises(MoneyOverflow):
                heidrun.settle(tokens, price, unit, fee, rounding)
            return
        settled = heidrun.settle(tokens, price, unit, fee, rounding)
        assert settled.tokens == tokens
        assert settled.total_microcents == total
        assert settled.fee_microcents == floor(Fraction(total * fee, 10_000))
        assert settled.fee_microcents + settled.earnings_microcents == total
        assert settled == heidrun.quote(tokens, price, unit, fee, rounding)
        assert hash(settled) == hash(heidrun.quote(tokens, price, unit, fee, rounding))

    def test_rounds_a_request_up_to_whole_cents_as_the_specification_does(self) -> None:
        settled = heidrun.settle(1_001, 3, 1_000, 1_250)
        assert settled.total_microcents == 4 * MICROCENTS_PER_CENT
        assert (settled.fee_microcents, settled.earnings_microcents) == (500_000, 3_500_000)

    def test_keeps_microcents_for_a_statement(self) -> None:
        settled = heidrun.settle(1_001, 3, 1_000_000, 1_250, "per_statement")
        assert settled.total_microcents == 3_003
        assert (settled.fee_microcents, settled.earnings_microcents) == (375, 2_628)

    def test_fits_to_the_last_microcent(self) -> None:
        whole = MICROCENTS_MAX // MICROCENTS_PER_CENT
        settled = heidrun.settle(1_000, whole, 1_000, 1_000)
        assert settled.total_microcents == whole * MICROCENTS_PER_CENT
        with pytest.raises(MoneyOverflow) as caught:
            heidrun.settle(1_000, whole + 1, 1_000, 1_000)
        assert caught.value.field == "total_microcents"

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ((-1, 1, 1_000, 1_000), "tokens"),
            ((2**63, 1, 1_000, 1_000), "tokens"),
            ((1, -1, 1_000, 1_000), "price_cents"),
            ((1, 1, 0, 1_000), "unit_tokens"),
            ((1, 1, 100, 1_000), "unit_tokens"),
            ((1, 1, -1_000, 1_000), "unit_tokens"),
            ((1, 1, 1_000, 999), "fee_basis_points"),
            ((1, 1, 1_000, 1_501), "fee_basis_points"),
            ((0, 0, 1_000, 0), "fee_basis_points"),
            ((1, 1, 1_000, -(2**70)), "fee_basis_points"),
            ((1, 1, 1_000, 1_000, "per_day"), "rounding"),
        ],
    )
    def test_names_the_field_that_breaks_a_rule(self, arguments: tuple[int, ...], field: str) -> None:
        with pytest.raises(InvalidInput, match=field) as caught:
            heidrun.settle(*arguments)  # type: ignore[arg-type]
        assert caught.value.field == field

    def test_quote_names_its_own_field(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            heidrun.quote(-1, 1, 1_000, 1_000)
        assert caught.value.field == "tokens_max"

    def test_takes_no_floats(self) -> None:
        with pytest.raises(TypeError, match="price_cents"):
            heidrun.settle(1, 1.5, 1_000, 1_000)  # type: ignore[arg-type]


class TestAffordable:
    @given(budget=TOKENS, price=PRICES, unit=UNITS, rounding=ROUNDINGS)
    @example(budget=2**63 - 1, price=1, unit=1_000_000, rounding="per_statement")
    @example(budget=999_999, price=1, unit=1_000, rounding="per_request")
    def test_is_the_exact_inverse_of_the_total(
        self, budget: int, price: int, unit: int, rounding: str
    ) -> None:
        tokens = heidrun.tokens_affordable(budget, price, unit, rounding)
        assert exact_total(tokens, price, unit, rounding) <= budget
        if tokens < 2**63 - 1:
            assert exact_total(tokens + 1, price, unit, rounding) > budget
        else:
            assert price == 0 or exact_total(2**63, price, unit, rounding) <= budget + 1

    @given(tokens=TOKENS, price=PRICES, unit=UNITS, rounding=ROUNDINGS)
    def test_affords_what_was_quoted(self, tokens: int, price: int, unit: int, rounding: str) -> None:
        total = exact_total(tokens, price, unit, rounding)
        assume(total <= MICROCENTS_MAX)
        assert heidrun.tokens_affordable(total, price, unit, rounding) >= tokens

    def test_of_nothing_costs_nothing(self) -> None:
        assert heidrun.tokens_affordable(0, 1, 1_000) == 0
        assert heidrun.tokens_affordable(0, 0, 1_000) == 2**63 - 1

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ((-1, 1, 1_000), "budget_microcents"),
            ((1, -1, 1_000), "price_cents"),
            ((1, 1, 10), "unit_tokens"),
            ((1, 1, 1_000, ""), "rounding"),
        ],
    )
    def test_names_the_field_that_breaks_a_rule(self, arguments: tuple[int, ...], field: str) -> None:
        with pytest.raises(InvalidInput, match=field) as caught:
            heidrun.tokens_affordable(*arguments)  # type: ignore[arg-type]
        assert caught.value.field == field
