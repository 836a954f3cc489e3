"""The score against fractions, and the door of the engines."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.errors import InvalidInput
from yggdrasil.scoring import score, score_columns

SHARES = st.floats(0.0, 1.0)
AMOUNTS = st.floats(0.0, 1e15)
ABOVE_ZERO = st.floats(1e-3, 1e12)
ROWS = st.tuples(AMOUNTS, SHARES, AMOUNTS, SHARES, AMOUNTS)
REFERENCES = st.fixed_dictionaries(
    {"price_reference": ABOVE_ZERO, "latency_reference_ms": ABOVE_ZERO, "work_reference": ABOVE_ZERO}
)
HALVES = {"price_reference": 1.0, "latency_reference_ms": 1.0, "work_reference": 1.0}


def exact(row: tuple[float, ...], references: dict[str, float]) -> Fraction:
    price, quality, latency, availability, work = map(Fraction, row)
    price_reference = Fraction(references["price_reference"])
    latency_reference = Fraction(references["latency_reference_ms"])
    work_reference = Fraction(references["work_reference"])
    return (
        Fraction(30, 100) * price_reference / (price_reference + price)
        + Fraction(25, 100) * quality
        + Fraction(20, 100) * latency_reference / (latency_reference + latency)
        + Fraction(15, 100) * availability
        + Fraction(10, 100) * work_reference / (work_reference + work)
    )


@given(row=ROWS, references=REFERENCES)
def test_is_the_weighted_sum(
    row: tuple[float, float, float, float, float], references: dict[str, float]
) -> None:
    result = score(*row, **references)
    assert 0.0 <= result <= 1.0
    assert abs(Fraction(result) - exact(row, references)) < Fraction(1, 10**15)


def test_is_one_for_the_best_and_nothing_for_the_worst() -> None:
    assert score(0.0, 1.0, 0.0, 1.0, 0.0, **HALVES) == pytest.approx(1.0)
    assert score(1e300, 0.0, 1e300, 0.0, 1e300, **HALVES) == pytest.approx(0.0)


@given(rows=st.lists(ROWS, max_size=20), references=REFERENCES)
def test_columns_score_each_row(
    rows: list[tuple[float, float, float, float, float]], references: dict[str, float]
) -> None:
    columns = [[row[part] for row in rows] for part in range(5)]
    price, quality, latency_ms, availability, work = columns
    scored = score_columns(price, quality, latency_ms, availability, work, **references)
    assert scored == [score(*row, **references) for row in rows]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ((-1.0, 0.5, 1.0, 0.5, 1.0), "price"),
        ((1.0, 1.5, 1.0, 0.5, 1.0), "quality"),
        ((1.0, 0.5, float("inf"), 0.5, 1.0), "latency_ms"),
        ((1.0, 0.5, 1.0, float("nan"), 1.0), "availability"),
        ((1.0, 0.5, 1.0, 0.5, -0.1), "work"),
    ],
)
def test_names_the_field_that_breaks_a_rule(
    row: tuple[float, float, float, float, float], field: str
) -> None:
    with pytest.raises(InvalidInput, match=field) as caught:
        score(*row, **HALVES)
    assert caught.value.field == field
    with pytest.raises(InvalidInput, match=field):
        score_columns([row[0]], [row[1]], [row[2]], [row[3]], [row[4]], **HALVES)


def test_columns_must_be_of_equal_length_and_references_above_zero() -> None:
    with pytest.raises(InvalidInput, match="work"):
        score_columns([1.0], [1.0], [1.0], [1.0], [], **HALVES)
    for field in HALVES:
        with pytest.raises(InvalidInput, match=field):
            score(1.0, 1.0, 1.0, 1.0, 1.0, **(HALVES | {field: 0.0}))


@pytest.mark.parametrize("door", ["heidrun", "eikthyrnir", "scoring"])
def test_door_loads_nothing_but_the_engines(door: str) -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        f"import yggdrasil.{door}\n"
        "print(sorted(name for name in set(sys.modules) - before))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert answer.stdout.strip() == str(sorted(["yggdrasil", "yggdrasil._core", f"yggdrasil.{door}"]))
