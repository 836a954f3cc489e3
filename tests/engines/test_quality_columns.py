"""Quality by the column: every kind of input, quantiles, raters, changes, snapshots."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yggdrasil.eikthyrnir import Change, Quality
from yggdrasil.errors import InvalidInput

KEYS = [bytes([number]) * 16 for number in range(5)]
AT_MS = 1_767_225_600_000
HALF_LIFE_MS = 3_600_000
VALUES = [120.0, 80.0, 120.0, 900.0, 4_000.0, 81.0]
ROWS = [0, 1, 0, 2, 3, 1]
TIMES = [AT_MS + 1_000 * row for row in range(6)]
WEIGHTS = [1.0, 0.5, 1.0, 0.25, 1.0, 1.0]
Make = Callable[[list[Any]], Any]

NUMBERS: dict[str, Make] = {
    "numpy": np.array,
    "numpy strided": lambda column: np.repeat(np.array(column), 2)[::2],
    "pyarrow": pa.array,
    "pyarrow chunked": lambda column: pa.chunked_array([column[:2], column[2:]]),
    "polars": pl.Series,
    "pandas": pd.Series,
    "list": list,
    "tuple": tuple,
}


def singly(quality: Quality, metric: str = "latency_ms") -> Quality:
    for row, value, at_ms, weight in zip(ROWS, VALUES, TIMES, WEIGHTS, strict=True):
        quality.observe(KEYS[row], metric, value, at_ms=at_ms, weight=weight)
    return quality


def told(quality: Quality) -> list[float]:
    estimates = [quality.estimate(key, "latency_ms", at_ms=TIMES[-1]) for key in KEYS]
    return [
        number
        for estimate in estimates
        for number in (
            estimate.mean,
            estimate.weight,
            estimate.variance,
            estimate.lower_bound,
            estimate.upper_bound,
        )
    ]


def as_told(quality: Quality) -> object:
    """Rows of a provider are summed before they are added: next to single observations, not their bits."""
    return pytest.approx(told(quality), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", NUMBERS)
def test_columns_of_every_kind_are_single_observations(kind: str) -> None:
    make, quality = NUMBERS[kind], Quality(quantiles=True)
    handles = quality.handles(KEYS)
    changes = quality.observe_many(
        make([handles[row] for row in ROWS]),
        "latency_ms",
        make(VALUES),
        at_ms=make(TIMES),
        weights=make(WEIGHTS),
    )
    assert changes == []
    assert told(quality) == as_told(singly(Quality()))
    expected = singly(Quality(quantiles=True))
    assert [quality.quantile(key, "latency_ms", 0.5) for key in KEYS] == [
        expected.quantile(key, "latency_ms", 0.5) for key in KEYS
    ]


@pytest.mark.parametrize(
    "providers",
    [
        [KEYS[row] for row in ROWS],
        np.frombuffer(b"".join(KEYS[row] for row in ROWS), dtype=np.uint8).reshape(-1, 16),
        pa.array([KEYS[row] for row in ROWS], type=pa.binary(16)),
        pa.array([KEYS[row] for row in ROWS], type=pa.large_binary()),
        pl.Series([KEYS[row] for row in ROWS]),
    ],
    ids=["list", "numpy", "pyarrow", "pyarrow large", "polars"],
)
def test_providers_may_be_named_by_their_keys(providers: object) -> None:
    quality = Quality()
    quality.observe_many(providers, "latency_ms", array("d", VALUES), at_ms=TIMES, weights=WEIGHTS)
    assert told(quality) == as_told(singly(Quality()))


@pytest.mark.parametrize(
    "lies",
    [
        np.ascontiguousarray,
        np.asfortranarray,
        lambda keys: np.ascontiguousarray(keys[::-1])[::-1],
        lambda keys: np.repeat(keys, 2, axis=1)[:, ::2],
        lambda keys: np.ascontiguousarray(keys.T).T,
    ],
    ids=["row after row", "column after column", "backwards", "with gaps", "transposed"],
)
def test_keys_are_the_rows_of_an_array_however_it_lies(lies: Callable[[Any], Any]) -> None:
    keys = np.random.default_rng(1).integers(0, 256, (70, 16), dtype=np.uint8)
    quality = Quality()
    handles = quality.handles([row.tobytes() for row in keys])
    assert quality.handles(lies(keys)).tolist() == handles
    quality.observe_many(lies(keys), "success", np.linspace(0, 1, len(keys)), at_ms=0)
    last = quality.estimate(keys[-1].tobytes(), "success", at_ms=0)
    assert (len(quality), last.weight) == (len(keys), 1.0)
    assert last.mean > 0.5


@pytest.mark.parametrize("width", [0, 65])
def test_rows_that_are_no_keys_are_refused(width: int) -> None:
    with pytest.raises(InvalidInput, match=r"providers must be 1 to 64 bytes long \(row 0\)"):
        Quality().handles(np.zeros((3, width), dtype=np.uint8))
    assert len(Quality().handles(np.zeros((0, width), dtype=np.uint8))) == 0


def test_handles_come_in_the_kind_of_the_keys() -> None:
    quality = Quality()
    listed = quality.handles(KEYS)
    rows = np.frombuffer(b"".join(KEYS), dtype=np.uint8).reshape(-1, 16)
    arrow = quality.handles(pa.array(KEYS, type=pa.binary(16)))
    assert quality.handles(rows).tolist() == pa.array(arrow).to_pylist() == listed
    assert len(quality) == len(KEYS)


def test_one_time_serves_for_all() -> None:
    quality, expected = Quality(), Quality()
    quality.observe_many(KEYS, "success", np.ones(5, dtype=np.float32), at_ms=AT_MS)
    for key in KEYS:
        expected.observe(key, "success", 1.0, at_ms=AT_MS)
    assert told(quality) == as_told(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [*VALUES[:4], float("nan"), 1.0]}, r"values must be from 0 to 1e12 \(row 4\)"),
        ({"values": pa.array([1.0, None, *VALUES[2:]])}, r"values must not be null \(row 1\)"),
        ({"values": ["a"] * 6}, r"values must be numbers, not str \(row 0\)"),
        ({"values": VALUES[:5]}, "values must have as many rows as providers"),
        ({"weights": [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]}, r"weights must be above 0 and at most 1 \(row 2\)"),
        ({"at_ms": TIMES[:2]}, "at_ms must have as many rows"),
        ({"at_ms": np.array(VALUES)}, "at_ms must be whole numbers"),
        ({"at_ms": 2**63}, "at_ms is out of range"),
        ({"at_ms": np.full(6, 2**63, dtype=np.uint64)}, "at_ms must be whole numbers below"),
        ({"at_ms": pa.array([2**63] * 6, type=pa.uint64())}, "at_ms must be whole numbers below"),
        ({"at_ms": pa.array([1, None, 1, 1, 1, 1])}, "at_ms must be whole numbers without nulls"),
        ({"providers": [*KEYS, b""]}, r"providers must be 1 to 64 bytes long \(row 5\)"),
        ({"providers": np.arange(6)}, r"providers must be a handle of a provider that is here \(row 0\)"),
        ({"providers": "abcdef"}, "providers must be bytes"),
        ({"metric": "speed"}, "metric must be"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_added(change: dict[str, Any], message: str) -> None:
    arguments = {
        "providers": [KEYS[row] for row in ROWS],
        "metric": "latency_ms",
        "values": VALUES,
        "at_ms": TIMES,
    } | change
    quality = Quality()
    with pytest.raises(InvalidInput, match=message):
        quality.observe_many(
            arguments.pop("providers"), arguments.pop("metric"), arguments.pop("values"), **arguments
        )
    assert len(quality) == 0


EVENTS = st.lists(
    st.tuples(st.floats(0.0, 1e6), st.floats(0.001, 1.0), st.integers(AT_MS - 20 * HALF_LIFE_MS, AT_MS)),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(events=EVENTS, rank=st.floats(0.0, 1.0))
def test_a_quantile_is_within_one_percent_of_the_exact_one(
    events: list[tuple[float, float, int]], rank: float
) -> None:
    quality = Quality(half_life_ms=HALF_LIFE_MS, quantiles=True)
    values, weights, times = zip(*events, strict=True)
    quality.observe_many(
        [KEYS[0]] * len(events), "throughput", list(values), at_ms=list(times), weights=list(weights)
    )
    with localcontext() as context:
        context.prec = 50
        weighed = sorted(
            (value, Decimal(weight) * Decimal(2) ** (Decimal(when - AT_MS) / HALF_LIFE_MS))
            for value, weight, when in events
        )
        all_of_it = sum((weight for _, weight in weighed), Decimal(0))

        def at(share: Decimal) -> float:
            below = Decimal(0)
            for value, weight in weighed:
                below += weight
                if below >= share * all_of_it:
                    return value
            return weighed[-1][0]

        # The rank itself is met within 10⁻⁹ of the weight.
        least = at(Decimal(rank) * (1 - Decimal("2e-9")))
        most = at(Decimal(rank))
    found = quality.quantile(KEYS[0], "throughput", rank)
    assert found is not None
    assert least * 0.99 * (1 - 1e-9) - 1e-3 <= found <= most * 1.01 * (1 + 1e-9) + 1e-3


def test_quantiles_are_kept_only_where_asked_for() -> None:
    with pytest.raises(InvalidInput, match="quantiles"):
        Quality().quantile(KEYS[0], "latency_ms", 0.5)
    quality = Quality(quantiles=True)
    assert quality.quantile(KEYS[0], "latency_ms", 0.5) is None
    assert quality.trimmed_mean(KEYS[0], "latency_ms") is None
    for bad in (
        lambda: quality.quantile(KEYS[0], "success", 0.5),
        lambda: quality.quantile(KEYS[0], "latency_ms", 1.5),
        lambda: quality.trimmed_mean(KEYS[0], "latency_ms", 0.5),
        lambda: quality.merge(Quality()),
    ):
        with pytest.raises(InvalidInput):
            bad()


def test_a_rater_counts_at_most_what_is_allowed_and_what_is_measured_counts_in_full() -> None:
    quality = Quality(rater_weight_max=2.0)
    for _ in range(100):
        quality.observe(KEYS[0], "quality", 0.0, at_ms=AT_MS, rater=KEYS[1])
    assert quality.estimate(KEYS[0], "quality", at_ms=AT_MS).weight == pytest.approx(2.0)
    for _ in range(5):
        quality.observe(KEYS[0], "quality", 1.0, at_ms=AT_MS)
    assert quality.estimate(KEYS[0], "quality", at_ms=AT_MS).mean == pytest.approx((1.0 + 5.0) / (2 + 2 + 5))
    with pytest.raises(InvalidInput, match="rater"):
        quality.observe(KEYS[0], "latency_ms", 1.0, at_ms=AT_MS, rater=KEYS[1])
    with pytest.raises(InvalidInput, match="rater"):
        quality.observe(KEYS[0], "quality", 1.0, at_ms=AT_MS, rater=b"short")


def test_a_big_change_is_told_once_singly_and_by_the_column() -> None:
    quality = Quality(notice_share=0.2, notice_ratio=2.0)
    changes = [quality.observe(KEYS[0], "success", 1.0, at_ms=AT_MS) for _ in range(3)]
    assert changes[0] is None
    assert isinstance(changes[1], Change)
    assert (changes[1].provider, changes[1].metric) == (KEYS[0], "success")
    assert (changes[1].before, changes[1].after) == pytest.approx((0.5, 0.75))
    assert changes[2] is None
    by_column = quality.observe_many([KEYS[1]] * 3 + [KEYS[2]], "success", [0.0, 0.0, 0.0, 1.0], at_ms=AT_MS)
    assert [change.provider for change in by_column] == [KEYS[1]]
    assert by_column[0].after == pytest.approx(0.2)
    assert Quality().observe(KEYS[0], "success", 0.0, at_ms=AT_MS) is None
    with pytest.raises(InvalidInput, match="notice_share"):
        Quality(notice_ratio=2.0)


def test_a_snapshot_restores_all_of_it() -> None:
    quality = singly(Quality(quantiles=True, notice_share=0.1, notice_ratio=1.5, half_life_ms=HALF_LIFE_MS))
    quality.observe(KEYS[0], "quality", 0.7, at_ms=AT_MS, rater=KEYS[4])
    restored = Quality.restore(quality.snapshot())
    assert told(restored) == told(quality)
    assert restored.snapshot() == quality.snapshot()
    assert restored.quantile(KEYS[1], "latency_ms", 0.5) == quality.quantile(KEYS[1], "latency_ms", 0.5)
    restored.merge(quality)


@given(data=st.binary(max_size=300))
def test_strange_bytes_are_no_snapshot(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="snapshot"):
        Quality.restore(data)


def test_memory_is_bounded_for_each_provider() -> None:
    """The figure of the documentation: 128 bytes of aggregates, the key, and room to grow."""
    keys = np.arange(100_000, dtype=np.uint64).repeat(2).view(np.uint8).reshape(-1, 16)
    quality = Quality()
    quality.handles(keys)
    assert 128 + 16 + 16 < quality.memory_bytes / len(quality) < 400
