"""Settlement by the column equals exact fractions, whatever holds the columns."""

from __future__ import annotations

import array
import random
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil import heidrun
from yggdrasil.errors import InvalidInput, MoneyOverflow

from .test_money import ROUNDINGS, UNITS, exact_total

TOKENS = st.lists(st.one_of(st.integers(0, 3_000_000), st.integers(2**28 - 5, 2**28 + 5)), max_size=40)


def columns(settled: heidrun.Settlements) -> list[tuple[int, int, int]]:
    return list(
        zip(settled.total_microcents, settled.fee_microcents, settled.earnings_microcents, strict=True)
    )


class TestSettleMany:
    @given(
        tokens=TOKENS,
        price=st.integers(0, 70_000),
        unit=UNITS,
        fee=st.integers(1_000, 1_500),
        rounding=ROUNDINGS,
    )
    def test_equals_settle_row_by_row(
        self, tokens: list[int], price: int, unit: int, fee: int, rounding: str
    ) -> None:
        each = [heidrun.settle(one, price, unit, fee, rounding) for one in tokens]
        parts = [(one.total_microcents, one.fee_microcents, one.earnings_microcents) for one in each]
        assert columns(heidrun.settle_many(tokens, price, unit, fee, rounding)) == parts

    def test_equals_the_exact_fraction_for_a_hundred_thousand_rows(self) -> None:
        chance = random.Random(11)
        tokens = [chance.randrange(2_000_001) for _ in range(100_000)]
        prices = [chance.choice((0, 1, 3, 99, 1_000, 65_535, 65_536, 10**9)) for _ in tokens]
        fees = [chance.randrange(1_000, 1_501) for _ in tokens]
        for unit, rounding in ((1_000, "per_request"), (1_000_000, "per_statement")):
            settled = heidrun.settle_many(tokens, prices, unit, fees, rounding)
            for row, (total, fee, earnings) in enumerate(columns(settled)):
                assert total == exact_total(tokens[row], prices[row], unit, rounding)
                assert fee == total * fees[row] // 10_000 == floor(Fraction(total * fees[row], 10_000))
                assert earnings == total - fee

    @pytest.mark.parametrize(
        "hold",
        [
            list,
            tuple,
            lambda values: array.array("q", values),
            lambda values: memoryview(array.array("q", values)),
            lambda values: np.array(values, dtype=np.int64),
            lambda values: np.array([values, values], dtype=np.int64).T[:, 1],
            lambda values: np.array(values[::-1], dtype=np.int64)[::-1],
        ],
    )
    def test_takes_columns_as_they_lie(self, hold: Any) -> None:
        tokens = list(range(0, 3_000, 7))
        settled = heidrun.settle_many(hold(tokens), 3, 1_000, hold([1_250] * len(tokens)))
        totals = np.asarray(settled.total_microcents)
        assert totals.dtype == np.int64
        assert totals.tolist() == [ceil(Fraction(one * 3, 1_000)) * 1_000_000 for one in tokens]

    def test_of_nothing_is_nothing(self) -> None:
        assert columns(heidrun.settle_many([], 1, 1_000, 1_000)) == []

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            (([1, -1], 1, 1_000, 1_000), "tokens[1]"),
            (([1, 1], [1, -1], 1_000, 1_000), "price_cents[1]"),
            (([1] * 600, 1, 1_000, [1_000] * 599 + [1_501]), "fee_basis_points[599]"),
            (([1, 1], [1], 1_000, 1_000), "price_cents"),
            (([1, 1], 1, 1_000, [1_000] * 3), "fee_basis_points"),
            (([1], 1, 100, 1_000), "unit_tokens"),
            (([1], 1, 1_000, 1_000, "never"), "rounding"),
            (([2**63], 1, 1_000, 1_000), "tokens[0]"),
            ((5, 1, 1_000, 1_000), "tokens"),
            ((np.array([1.0]), 1, 1_000, 1_000), "tokens"),
            ((np.array([1], dtype=np.int32), 1, 1_000, 1_000), "tokens"),
            ((np.array([[1]], dtype=np.int64), 1, 1_000, 1_000), "tokens"),
            ((b"12345678", 1, 1_000, 1_000), "tokens"),
        ],
    )
    def test_names_the_column_and_the_row(self, arguments: tuple[Any, ...], field: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            heidrun.settle_many(*arguments)
        assert caught.value.field == field

    def test_names_the_row_that_overflows(self) -> None:
        tokens = [1] * 700 + [2**62]
        with pytest.raises(MoneyOverflow) as caught:
            heidrun.settle_many(tokens, 10_000, 1_000, 1_000)
        assert caught.value.field == "total_microcents[700]"
