"""The provider score, and the router that picks by it. Imports nothing of the server.

The score is ``0.30 price + 0.25 quality + 0.20 latency + 0.15 availability + 0.10 fairness``, each part in
[0, 1]: ``p₀ / (p₀ + price)``, the lower bound of the quality, ``l₀ / (l₀ + latency)``, the decayed share of
successes, and ``f₀ / (f₀ + work)``. The parts are absolute: a change at one provider moves that one's score
alone.

- ``score``: of one provider, or of every row of a table; ``score_columns``: of five sequences;
- ``rank``: the `k` best rows of a table; ``expr``: the score as a Polars expression.

``Router(...)`` holds the offers and picks one for a request. It is a function of its state, the request and
the seed.

- the offers: ``upsert``, ``remove``, ``set_online``, ``set_open``;
- what is known of them: ``set_estimates``, ``set_references``; ``report`` and ``report_owner``, how requests
  ended, for the breakers; ``tick``, with which work fades;
- requests: ``pick``, ``pick_many``, ``release``;
- what came of it: ``load``, ``breaker_state``, ``medians``, ``take_tallies``, ``take_asked``, ``weights``;
- ``snapshot`` and ``Router.restore``.

``Decision``: ``key``, ``group``, ``owner`` and ``propensity`` (None if nothing fits), ``explored``,
``feasible``, ``gates`` and ``card()``.

What tables are copied, what a missing value does and how errors name rows: docs/engines/scoring.md.

Offers whose scores are within the band width of the best count as equal and take turns by start-time fair
queueing (Goyal, Vin and Cheng 1996), weighted by capacity; one request moves its provider's turn back by at
most `turn_times_max` times the mean work of the late ones. `newcomer_ppm` picks in a million go to an
offer picked less than three times, if there is one; one that chance passed over in twice as many picks as
that takes on average gets the next. `explore_ppm` picks in a million are drawn evenly among
all that passed the gates, with the probability of the pick recorded, so that logs can be evaluated
offline.

Around them: ``simulate(scenario, policy, seed)`` runs a closed loop of providers and requests to compare
policies (`yggdrasil.scoring.policies`, `yggdrasil.scoring.scenarios`), and ``DecisionLog``, ``evaluate`` and
``replay`` ask what another policy would have done with the decisions that were made.

What breaks a rule raises `InvalidInput` with the name of the field, and changes nothing.
"""

from yggdrasil._core import Decision, Ranking, Router, rank, score_columns
from yggdrasil._core import score as _score_one
from yggdrasil._core import score_table as _score_table

# Type checkers take it for true. `typing` and `importlib` cost more than the engine.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, overload

    import polars

    from yggdrasil.scoring.decisions import Candidate, DecisionLog, LoggedDecision, Outcome
    from yggdrasil.scoring.evaluation import Evaluation, evaluate, replay, weighted, what_if
    from yggdrasil.scoring.report import Report
    from yggdrasil.scoring.simulation import simulate
    from yggdrasil.scoring.world import Scenario, SimulatedProvider, SimulatedRequest, Span

    @overload
    def score(
        price: float,
        quality: float,
        latency_ms: float,
        availability: float,
        work: float,
        /,
        *,
        price_reference: float,
        latency_reference_ms: float,
        work_reference: float,
    ) -> float: ...
    @overload
    def score(
        table: Any,
        /,
        *,
        price_reference: float | None = None,
        latency_reference_ms: float | None = None,
        work_reference: float,
        references: dict[str, tuple[float, float]] | None = None,
        missing: str = "error",
        out: Any = None,
    ) -> Any: ...

    def score(*parts: Any, **options: Any) -> Any: ...

else:

    def score(table, /, *parts, **options):
        """The score of one provider, of five numbers, or of every row of a table: the same to the last bit.

        ``score(price, quality, latency_ms, availability, work, *, price_reference, latency_reference_ms,
        work_reference) -> float``: the price and its reference in one unit, the latencies in milliseconds,
        quality and availability from 0 to 1, work and its reference in one unit.

        ``score(table, *, price_reference, latency_reference_ms, work_reference, references=None,
        missing="error", out=None)``: a score a row, in the table's kind. A table is a mapping of columns, a
        NumPy record array, a pandas frame or anything with the Arrow PyCapsule interface (pyarrow, Polars,
        DuckDB). Its columns are those five and, for ``references={model: (price_reference,
        latency_reference_ms)}``, ``model``. ``missing="null"`` gives a row without a value no score; ``out``
        is an array of float64 that takes the scores.

        InvalidInput names the column, the rule and the first row that breaks it.
        """
        return _score_one(table, *parts, **options) if parts else _score_table(table, **options)


__all__ = [
    "Candidate",
    "Decision",
    "DecisionLog",
    "Evaluation",
    "LoggedDecision",
    "Outcome",
    "Ranking",
    "Report",
    "Router",
    "Scenario",
    "SimulatedProvider",
    "SimulatedRequest",
    "Span",
    "evaluate",
    "expr",
    "rank",
    "replay",
    "score",
    "score_columns",
    "simulate",
    "weighted",
    "what_if",
]


def expr(
    *,
    price_reference: float | None = None,
    latency_reference_ms: float | None = None,
    work_reference: float,
    references: "Mapping[str, tuple[float, float]] | None" = None,
) -> "polars.Expr":
    """The score of each row as a Polars expression, named ``score``: for lazy frames and groups.

    The same numbers as `score` to the last bit, for columns of Float64; null if one of the row's values is
    null. Nothing is checked: a share above 1 or a negative price gives a number of no meaning. A model that
    is not in `references` takes the common ones, or without those is an error of Polars'.
    """
    import polars as pl  # heavy, and only this needs it

    def half(common: float | None, place: int) -> "polars.Expr":
        if not references:
            return pl.lit(common, pl.Float64)
        models, pairs = list(references), [pair[place] for pair in references.values()]
        given = {} if common is None else {"default": common}
        return pl.col("model").replace_strict(models, pairs, return_dtype=pl.Float64, **given)

    if not references and (price_reference is None or latency_reference_ms is None):
        raise ValueError("price_reference and latency_reference_ms must be given, or references")
    price, latency = half(price_reference, 0), half(latency_reference_ms, 1)
    work = pl.lit(work_reference, pl.Float64)
    return (
        0.30 * (price / (price + pl.col("price")))
        + 0.25 * pl.col("quality")
        + 0.20 * (latency / (latency + pl.col("latency_ms")))
        + 0.15 * pl.col("availability")
        + 0.10 * (work / (work + pl.col("work")))
    ).alias("score")


# The server picks and nothing else: what it does not use is imported when it is asked for.
_ROOMS = {
    "decisions": ("Candidate", "DecisionLog", "LoggedDecision", "Outcome"),
    "evaluation": ("Evaluation", "evaluate", "replay", "weighted", "what_if"),
    "report": ("Report",),
    "simulation": ("simulate",),
    "world": ("Scenario", "SimulatedProvider", "SimulatedRequest", "Span"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = found
    return found
