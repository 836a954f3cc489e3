"""The score by the column against what data people would write, and against the memory."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from benches.engines.sides import EngineMeasure, Side
from yggdrasil.scoring import expr, rank, score

ROWS = 1_000_000
K = 100
THREADS = 2
REFERENCES = {"price_reference": 3.0, "latency_reference_ms": 400.0, "work_reference": 70.0}
SQL = """0.30 * (3.0 / (3.0 + price)) + 0.25 * quality + 0.20 * (400.0 / (400.0 + latency_ms))
    + 0.15 * availability + 0.10 * (70.0 / (70.0 + work))"""


@cache
def table() -> dict[str, np.ndarray[Any, Any]]:
    drawn = np.random.default_rng(1)
    most = {"price": 20.0, "quality": 1.0, "latency_ms": 5_000.0, "availability": 1.0, "work": 1e6}
    return {name: drawn.random(ROWS) * limit for name, limit in most.items()}


@cache
def frame() -> pl.DataFrame:
    return pl.DataFrame(table())


@cache
def database() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}")
    connection.register("given", pa.table(table()))
    connection.execute("CREATE TABLE offers AS SELECT * FROM given")
    return connection


@cache
def out() -> np.ndarray[Any, Any]:
    return np.zeros(ROWS)


def by_numpy() -> np.ndarray[Any, Any]:
    t = table()
    return (
        0.30 * (3.0 / (3.0 + t["price"]))
        + 0.25 * t["quality"]
        + 0.20 * (400.0 / (400.0 + t["latency_ms"]))
        + 0.15 * t["availability"]
        + 0.10 * (70.0 / (70.0 + t["work"]))
    )


def by_polars() -> pl.DataFrame:
    return frame().select(expr(**REFERENCES))


def by_duckdb() -> object:
    return database().execute(f"SELECT {SQL} AS score FROM offers").fetchnumpy()  # noqa: S608 - a constant


@cache
def halves() -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """What a score reads and writes is six columns: copying three of them is as many bytes."""
    source, target = np.ones(3 * ROWS), np.zeros(3 * ROWS)
    cut = len(source) // THREADS
    return [(target[at : at + cut], source[at : at + cut]) for at in range(0, len(source), cut)]


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS)


def by_memory() -> None:
    list(pool().map(lambda pair: np.copyto(*pair), halves()))


SCORE = EngineMeasure(
    "scoring.score_1e6",
    "ms",
    "lower",
    target="3x NumPy",
    least_ratio=3.0,
    notes={"rows": ROWS, "threads": THREADS, "ours": "a table of NumPy columns, a new array for the result"},
)


@SCORE.sides(
    lambda: score(table(), **REFERENCES),
    {f"numpy {np.__version__}": by_numpy, f"duckdb {duckdb.__version__}": by_duckdb},
)
def test_score(side: Side, benchmark: Any) -> None:
    side(benchmark)


SCORE_BEST = EngineMeasure(
    "scoring.score_1e6_arrow",
    "ms",
    "lower",
    target="1.5x Polars",
    least_ratio=1.5,
    notes={"rows": ROWS, "ours": "a frame of Polars, an Arrow array for the result"},
)


@SCORE_BEST.sides(
    lambda: score(frame(), **REFERENCES), {f"polars {pl.__version__}, {THREADS} threads": by_polars}
)
def test_score_of_a_frame(side: Side, benchmark: Any) -> None:
    side(benchmark)


SCORE_BOUND = EngineMeasure(
    "scoring.score_1e6_bound",
    "ms",
    "lower",
    target="1.5x the copy at most",
    least_ratio=1 / 1.5,
    notes={"rows": ROWS, "bytes": 48 * ROWS, "ours": "into an array that is there"},
)


@SCORE_BOUND.sides(
    lambda: score(table(), **REFERENCES, out=out()),
    {f"a copy of as many bytes, {THREADS} threads": by_memory},
)
def test_score_against_the_memory(side: Side, benchmark: Any) -> None:
    side(benchmark)


def top_by_numpy() -> np.ndarray[Any, Any]:
    scores = by_numpy()
    best = np.argpartition(-scores, K)[:K]
    return best[np.argsort(-scores[best], kind="stable")]


def top_by_polars() -> pl.DataFrame:
    return frame().lazy().select(expr(**REFERENCES)).with_row_index().top_k(K, by="score").collect()


def top_by_duckdb() -> object:
    query = f"SELECT rowid, {SQL} AS score FROM offers ORDER BY score DESC LIMIT {K}"  # noqa: S608 - constants
    return database().execute(query).fetchnumpy()


RANK = EngineMeasure("scoring.rank_1e6", "ms", "lower", notes={"rows": ROWS, "k": K})


@RANK.sides(
    lambda: rank(table(), K, **REFERENCES),
    {
        f"numpy {np.__version__}": top_by_numpy,
        f"polars {pl.__version__}": top_by_polars,
        f"duckdb {duckdb.__version__}": top_by_duckdb,
    },
)
def test_rank(side: Side, benchmark: Any) -> None:
    side(benchmark)


def python(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - our own programs


IMPORT = EngineMeasure(
    "scoring.import_ms",
    "ms",
    "lower",
    target="50 ms",
    bound=50.0,
    notes={"what": "a whole process: start, import, end"},
)


@IMPORT.sides(lambda: python("import yggdrasil.scoring"), {})
def test_import(side: Side, benchmark: Any) -> None:
    side(benchmark)


# Not peers of the bound, but what a process costs without us, and with others.
IMPORT_OTHERS = EngineMeasure("scoring.import_others_ms", "ms", "lower")


@IMPORT_OTHERS.sides(
    lambda: python("import yggdrasil.scoring"),
    {
        "nothing": lambda: python("pass"),
        "numpy": lambda: python("import numpy"),
        "polars": lambda: python("import polars"),
    },
)
def test_import_of_others(side: Side, benchmark: Any) -> None:
    side(benchmark)
