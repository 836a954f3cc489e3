"""Tables of every kind, scored and ranked, against one score at a time."""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yggdrasil.errors import InvalidInput
from yggdrasil.scoring import Router, expr, rank, score

REFERENCES = {"price_reference": 3.0, "latency_reference_ms": 400.0, "work_reference": 70.0}
BY_MODEL = {"big": (9.0, 800.0), "small": (1.0, 100.0)}
COLUMNS = ("price", "quality", "latency_ms", "availability", "work")
Columns = dict[str, list[Any]]


def columns(rows: int, seed: int = 1) -> Columns:
    drawn = np.random.default_rng(seed)
    table: Columns = {
        "price": (drawn.random(rows) * 20).tolist(),
        "quality": drawn.random(rows).tolist(),
        "latency_ms": (drawn.random(rows) * 5_000).tolist(),
        "availability": drawn.random(rows).tolist(),
        "work": (drawn.random(rows) * 1e6).tolist(),
        "model": [("big", "small", "other")[row % 3] for row in range(rows)],
    }
    return table


TABLE = columns(1_000)


def numbers(table: Columns) -> Columns:
    return {name: table[name] for name in COLUMNS}


def singly(table: Columns, by_model: bool = False) -> list[float]:
    common = (REFERENCES["price_reference"], REFERENCES["latency_reference_ms"])
    scores = []
    for row in range(len(table["price"])):
        price, latency = BY_MODEL.get(table["model"][row], common) if by_model else common
        scores.append(
            score(
                *(table[name][row] for name in COLUMNS),
                price_reference=price,
                latency_reference_ms=latency,
                work_reference=REFERENCES["work_reference"],
            )
        )
    return scores


def records(table: Columns) -> np.ndarray[Any, Any]:
    dtype = [("odd", "i1"), *((name, "f8") for name in COLUMNS), ("model", "U8")]
    packed = np.zeros(len(table["price"]), dtype=dtype)
    for name in (*COLUMNS, "model"):
        packed[name] = table[name]
    return packed


def chunked(table: Columns) -> pa.Table:
    whole = pa.table(table)
    return pa.concat_tables([whole.slice(0, 333), whole.slice(333, 0), whole.slice(333)])


def duck(table: Columns) -> object:
    connection = duckdb.connect()
    connection.register("offers", pa.table(table))
    return connection.sql("SELECT * FROM offers")


Make = Callable[[Columns], Any]
TABLES: dict[str, tuple[Make, type]] = {
    "dict of lists": (dict, list),
    "dict of tuples": (lambda table: {name: tuple(column) for name, column in table.items()}, list),
    "dict of arrays": (
        lambda table: (
            {name: array("d", column) for name, column in numbers(table).items()} | {"model": table["model"]}
        ),
        list,
    ),
    "dict of numpy": (
        lambda table: {name: np.array(column) for name, column in table.items()},
        np.ndarray,
    ),
    "dict of strided numpy": (
        lambda table: {name: np.repeat(np.array(column), 3)[::3] for name, column in table.items()},
        np.ndarray,
    ),
    "dict of read-only, odd-ordered numpy": (
        lambda table: (
            {name: np.array(column).astype(">f8") for name, column in numbers(table).items()}
            | {"model": np.array(table["model"], dtype=object)}
        ),
        np.ndarray,
    ),
    "dict of pyarrow": (lambda table: {name: pa.array(column) for name, column in table.items()}, object),
    "dict of chunked pyarrow": (
        lambda table: {
            name: pa.chunked_array([column[:400], column[400:]]) for name, column in table.items()
        },
        object,
    ),
    "dict of polars": (lambda table: {name: pl.Series(column) for name, column in table.items()}, object),
    "numpy records": (records, np.ndarray),
    "pyarrow table": (pa.table, object),
    "pyarrow chunked table": (chunked, object),
    "pyarrow batch": (lambda table: pa.record_batch(table), object),
    "pyarrow dictionary models": (
        lambda table: pa.table(table | {"model": pa.array(table["model"]).dictionary_encode()}),
        object,
    ),
    "polars frame": (pl.DataFrame, object),
    "polars frame of categories": (
        lambda table: pl.DataFrame(table).with_columns(pl.col("model").cast(pl.Categorical)),
        object,
    ),
    "polars chunked frame": (
        lambda table: pl.concat(
            [
                pl.DataFrame({name: column[:200] for name, column in table.items()}),
                pl.DataFrame({name: column[200:] for name, column in table.items()}),
            ],
            rechunk=False,
        ),
        object,
    ),
    "pandas frame": (pd.DataFrame, np.ndarray),
    "pandas nullable frame": (lambda table: pd.DataFrame(table).convert_dtypes(), np.ndarray),
    "duckdb relation": (duck, object),
}


def listed(result: object) -> list[float | None]:
    if isinstance(result, list):
        return result
    if isinstance(result, np.ndarray):
        return [None if np.isnan(number) else float(number) for number in result]
    values: list[float | None] = pa.array(result).to_pylist()
    return values


@pytest.mark.parametrize("by_model", [False, True], ids=["common", "by model"])
@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_of_table_scores_as_singly_to_the_bit(kind: str, by_model: bool) -> None:
    make, gives = TABLES[kind]
    options: dict[str, Any] = REFERENCES | ({"references": BY_MODEL} if by_model else {})
    scored = score(make(TABLE), **options)
    assert isinstance(scored, gives)
    assert listed(scored) == singly(TABLE, by_model)
    best = rank(make(TABLE), 7, **options)
    expected = sorted(enumerate(singly(TABLE, by_model)), key=lambda row: -row[1])[:7]
    assert list(zip(listed(best.rows), listed(best.scores), strict=True)) == expected
    assert len(best) == 7
    weights = (0.30, 0.25, 0.20, 0.15, 0.10)
    for parts, (_, total) in zip(best.parts, expected, strict=True):
        assert list(parts) == ["price", "quality", "latency", "availability", "fairness"]
        assert sum(w * part for w, part in zip(weights, parts.values(), strict=True)) == pytest.approx(total)


def test_an_arrow_result_is_taken_by_everyone() -> None:
    scored, expected = score(pa.table(TABLE), **REFERENCES), singly(TABLE)
    assert pa.array(scored).to_pylist() == expected
    assert pl.Series(scored).to_list() == expected
    assert pd.Series(pa.array(scored).to_pandas()).tolist() == expected
    with_scores = pa.table({"score": pa.array(scored)})
    connection = duckdb.connect()
    connection.register("scored", with_scores)
    assert connection.sql("SELECT max(score) FROM scored").fetchall() == [(max(expected),)]
    frame = pl.DataFrame(TABLE)
    assert (
        frame.with_columns(pl.Series(score(frame, **REFERENCES)).alias("score"))["score"].to_list()
        == expected
    )


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u2", "i4"])
def test_other_numbers_are_widened(dtype: str) -> None:
    whole = {name: (np.array(TABLE[name]) % 60_000).astype(dtype) for name in COLUMNS}
    wide = {name: column.astype("f8").tolist() for name, column in whole.items()}
    wide["model"] = TABLE["model"]
    assert listed(score(whole, **REFERENCES)) == singly(wide)
    if dtype != "f2":
        assert listed(score(pa.table(whole), **REFERENCES)) == singly(wide)


def test_out_is_filled_and_returned() -> None:
    out = np.empty(1_000)
    table = {name: np.array(TABLE[name]) for name in COLUMNS}
    assert score(table, **REFERENCES, out=out) is out
    assert out.tolist() == singly(TABLE)
    read_only = np.empty(1_000)
    read_only.flags.writeable = False
    for bad in (np.empty(999), np.empty(1_000, dtype="f4"), np.empty(2_000)[::2], read_only, [0.0] * 1_000):
        with pytest.raises(InvalidInput, match="out"):
            score(table, **REFERENCES, out=bad)
    with pytest.raises(InvalidInput, match="out"):
        score(table, **REFERENCES, out=table["price"])


def with_bad(name: str, row: int, value: object) -> Columns:
    bad = {key: list(column) for key, column in TABLE.items()}
    bad[name][row] = value
    return bad


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("price", -1.0, "must be finite and at least 0"),
        ("quality", 1.5, "must be from 0 to 1"),
        ("latency_ms", float("inf"), "must be finite and at least 0"),
        ("availability", float("nan"), "must be from 0 to 1"),
        ("work", -0.1, "must be finite and at least 0"),
        ("work", float("nan"), "must be finite and at least 0"),
    ],
)
@pytest.mark.parametrize("kind", TABLES)
def test_a_bad_value_is_named_by_column_and_row(kind: str, name: str, value: float, rule: str) -> None:
    if kind == "pandas nullable frame" and value != value:
        rule = r"must be .*"
    table = TABLES[kind][0](with_bad(name, 777, value))
    for call in (lambda: score(table, **REFERENCES), lambda: rank(table, 3, **REFERENCES)):
        with pytest.raises(InvalidInput, match=rf"^{name} {rule} \(row 777\)$") as caught:
            call()
        assert caught.value.field == name


NULLS: dict[str, Make] = {
    "dict of lists": dict,
    "pyarrow": lambda table: pa.table(table, schema=pa.schema([(name, pa.float64()) for name in COLUMNS])),
    "pyarrow narrow": lambda table: pa.table(
        table, schema=pa.schema([(name, pa.float32()) for name in COLUMNS])
    ),
    "polars": pl.DataFrame,
    "pandas": pd.DataFrame,
    "pandas nullable": lambda table: pd.DataFrame(table).convert_dtypes(),
    "numpy": lambda table: {name: np.array(column, dtype=float) for name, column in table.items()},
}


@pytest.mark.parametrize("kind", NULLS)
def test_a_missing_value_is_an_error_or_has_no_score(kind: str) -> None:
    halves = numbers({name: [0.5] * 8 for name in COLUMNS})
    halves["latency_ms"][5] = None
    table = NULLS[kind](halves)
    with pytest.raises(InvalidInput, match=r"^latency_ms must .* \(row 5\)$"):
        score(table, **REFERENCES)
    scored = listed(score(table, **REFERENCES, missing="null"))
    assert [row for row, number in enumerate(scored) if number is None] == [5]
    ranked = rank(table, 8, **REFERENCES, missing="null")
    assert listed(ranked.rows) == [0, 1, 2, 3, 4, 6, 7]
    halves["price"][6] = -1.0
    with pytest.raises(InvalidInput, match=r"^price .* \(row 6\)$"):
        score(NULLS[kind](halves), **REFERENCES, missing="null")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({name: TABLE[name] for name in COLUMNS[1:]}, "price must be a column of the table"),
        (pa.table(TABLE).drop_columns(["work"]), "work must be a column of the table"),
        (pd.DataFrame(TABLE).drop(columns=["work"]), "work must be a column of the table"),
        (np.zeros(3, dtype=[("price", "f8")]), "quality must be a column of the table"),
        (numbers(TABLE) | {"work": TABLE["work"][:5]}, "work must have as many rows as price"),
        (numbers(TABLE) | {"work": "12345"}, "work must be a NumPy array"),
        (numbers(TABLE) | {"work": b"12345"}, "work must be a NumPy array"),
        (numbers(TABLE) | {"work": 5.0}, "work must be a NumPy array"),
        (numbers(TABLE) | {"work": ["a"] * 1_000}, r"work must be numbers, not str \(row 0\)"),
        (numbers(TABLE) | {"work": np.array(["a"] * 1_000)}, "work must be numbers, not <U1"),
        (numbers(TABLE) | {"work": np.ones(1_000, dtype=bool)}, "work must be numbers, not bool"),
        (numbers(TABLE) | {"work": np.ones((1_000, 1))}, "work must have one dimension"),
        (numbers(TABLE) | {"work": np.ma.masked_array(np.ones(1_000))}, "work must not be a masked array"),
        (numbers(TABLE) | {"work": pa.array(["a"] * 1_000)}, "work must be numbers, not Utf8"),
        (numbers(TABLE) | {"work": pd.Series(["a"] * 1_000)}, "work must be a column of numbers"),
        ([1.0, 2.0], "table must be"),
        (None, "table must be"),
        (pa.array([1.0]), "table must be an Arrow table"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_rule(table: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        score(table, **REFERENCES)


def test_references_must_be_sound_and_complete() -> None:
    only = {"work_reference": 70.0, "references": BY_MODEL}
    with pytest.raises(InvalidInput, match=r'model "other" must have references.* \(row 2\)'):
        score(TABLE, **only)
    with pytest.raises(InvalidInput, match=r'model "other" must have references.* \(row 2\)'):
        score(pa.table(TABLE), **only)
    for bad in ({"big": 3.0}, {"big": (1.0,)}, {1: (1.0, 1.0)}):
        with pytest.raises(InvalidInput, match="references"):
            score(TABLE, work_reference=1.0, references=bad)
    with pytest.raises(InvalidInput, match="latency_reference_ms"):
        score(TABLE, work_reference=1.0, references=dict.fromkeys(("big", "small", "other"), (1.0, 0.0)))
    with pytest.raises(InvalidInput, match="price_reference"):
        score(TABLE, work_reference=1.0)
    with pytest.raises(InvalidInput, match=r"model must be text \(row 4\)"):
        score(with_bad("model", 4, 7), **REFERENCES, references=BY_MODEL)
    with pytest.raises(InvalidInput, match=r"model must not be missing \(row 4\)"):
        score(with_bad("model", 4, None), **REFERENCES, references=BY_MODEL)
    with pytest.raises(InvalidInput, match="missing must be"):
        score(TABLE, **REFERENCES, missing="drop")
    with pytest.raises(InvalidInput, match="k must be"):
        rank(TABLE, -1, **REFERENCES)


@pytest.mark.parametrize("make", [dict, pa.table, pl.DataFrame, pd.DataFrame])
def test_an_empty_table_has_no_scores(make: Make) -> None:
    table = make({name: np.array([], dtype="f8") for name in COLUMNS})
    assert listed(score(table, **REFERENCES)) == []
    assert len(rank(table, 5, **REFERENCES)) == 0


@settings(deadline=None)
@given(
    shares=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=60),
    k=st.integers(0, 70),
)
def test_of_equal_scores_the_lower_row_comes_first(shares: list[float], k: int) -> None:
    table = {name: np.array(shares) for name in COLUMNS}
    expected = sorted(enumerate(listed(score(table, **REFERENCES))), key=lambda row: -(row[1] or 0))[:k]
    assert listed(rank(table, k, **REFERENCES).rows) == [row for row, _ in expected]


@pytest.mark.parametrize("by_model", [False, True], ids=["common", "by model"])
def test_the_expression_is_the_score_to_the_bit(by_model: bool) -> None:
    options: dict[str, Any] = REFERENCES | ({"references": BY_MODEL} if by_model else {})
    frame = pl.DataFrame(TABLE)
    assert frame.select(expr(**options))["score"].to_list() == singly(TABLE, by_model)
    assert frame.lazy().select(expr(**options)).collect()["score"].to_list() == singly(TABLE, by_model)
    gap = frame.with_columns(work=None).cast({"work": pl.Float64})
    assert gap.select(expr(**options))["score"].null_count() == 1_000
    with pytest.raises(ValueError, match="price_reference"):
        expr(work_reference=1.0)


def test_a_ranking_shows_itself_in_a_notebook() -> None:
    html = rank(TABLE, 60, **REFERENCES)._repr_html_()
    assert html.count("<tr>") == 1 + 50
    assert "10 more rows" in html
    best = rank(TABLE, 1, **REFERENCES)
    assert f"<td>{listed(best.rows)[0]}</td><td>{listed(best.scores)[0]:.4f}</td>" in best._repr_html_()


def test_a_decision_card_shows_itself_in_a_notebook() -> None:
    router = Router()
    keys = [bytes([number]) * 16 for number in range(3)]
    for key in keys[:2]:
        offer = {"key": key, "owner": keys[2], "group": key, "model": "m", "capacity": 1}
        router.upsert(**offer, price_microcents=100, context_tokens=8_000)
    router.set_online(keys[0], True)
    wish = {"model": "m", "network": bytes(16), "scope": "market", "context_tokens": 10, "seed": 1}
    html = router.pick(**wish, now_ms=0)._repr_html_()
    assert f"<td>&#9654;</td><td><code>{keys[0].hex()}</code></td>" in html
    assert "did not pass: online 1" in html
    assert "nothing fits" in router.pick(**wish, now_ms=0)._repr_html_()


def test_large_tables_are_shared_among_threads_and_give_the_same() -> None:
    table = {name: np.resize(np.array(TABLE[name]), 600_000) for name in COLUMNS}
    expected = np.resize(np.array(singly(TABLE)), 600_000)
    assert np.array_equal(score(table, **REFERENCES), expected)
    best = rank(table, 5_000, **REFERENCES)
    assert best.rows.tolist() == np.argsort(-expected, kind="stable")[:5_000].tolist()
    table["work"][599_999] = -1.0
    with pytest.raises(InvalidInput, match=r"work .* \(row 599999\)"):
        score(table, **REFERENCES)


def test_nothing_heavy_is_imported_for_plain_tables() -> None:
    program = (
        "import sys\n"
        "from yggdrasil.scoring import rank, score\n"
        "row = {name: [0.5] for name in ('price', 'quality', 'latency_ms', 'availability', 'work')}\n"
        "halves = {'price_reference': 1.0, 'latency_reference_ms': 1.0, 'work_reference': 1.0}\n"
        "score(row, **halves); rank(row, 1, **halves)\n"
        "print({'numpy', 'pyarrow', 'polars', 'pandas'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert answer.stdout.strip() == "set()"
