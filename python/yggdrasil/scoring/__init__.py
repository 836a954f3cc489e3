"""The provider score, and the router that picks by it. Imports nothing of the server.

The score is ``0.30 price + 0.25 quality + 0.20 latency + 0.15 availability + 0.10 fairness``, each part in
[0, 1]: ``p₀ / (p₀ + price)``, the lower bound of the quality, ``l₀ / (l₀ + latency)``, the decayed share of
successes, and ``f₀ / (f₀ + work)``. The parts are absolute: a change at one provider moves that one's score
alone.

- ``score(price, quality, latency_ms, availability, work, *, price_reference, latency_reference_ms,
  work_reference) -> float``. Price and its reference in one unit, work and its reference in one unit.
- ``score(table, *, price_reference, latency_reference_ms, work_reference, references=None, missing="error",
  out=None)``: a score a row, the same to the last bit. The table is a mapping of columns, a NumPy record
  array, a pandas frame or anything with the Arrow PyCapsule interface (pyarrow, Polars, DuckDB). Its columns
  are ``price``, ``quality``, ``latency_ms``, ``availability``, ``work`` and, if there are `references` by
  model (``{model: (price_reference, latency_reference_ms)}``), ``model``.
- ``rank(table, k, ...) -> Ranking``: the `k` best rows, best first, of equal scores the lower row first:
  ``rows``, ``scores``, ``parts``.
- ``expr(*, price_reference, ...)``: the score as a Polars expression over the same columns.
- ``score_columns(...) -> list[float]``: the same, of five sequences of equal length, one entry per provider.

``Router(...)`` holds the offers and picks one for a request. It is a function of its state, the request and
the seed; times are whole milliseconds from any fixed start, keys are 16 bytes, prices are micro-cents per
1,000,000 tokens. ``Router(weights=...)`` takes five other weights, by name or in their order, in any unit:
finite, at least 0, not all 0; they are divided by their sum. ``router.weights`` are those that it has.

- ``upsert(*, key, owner, group, model, price_microcents, context_tokens, capacity, visibility="market",
  group_capacity=None, output_tokens=None)``: `owner` is the network, `group` the device (its offers share a
  breaker, and its `group_capacity` slots), `visibility` ``own`` or ``market``. A new offer is offline and
  open; a changed one keeps how it stands. ``remove(key)``, ``set_online(key, online)``, ``set_open(key,
  open)`` (closed: its owner takes no work) and ``set_estimates(key, *, quality, latency_ms, availability)``
  return False if the offer is not here.
- ``pick(*, model, network, scope, context_tokens, now_ms, seed, work_tokens=context_tokens,
  price_microcents_max=None, only=(), ignore=(), tried=(), output_tokens=None, prefer=None) -> Decision``:
  `scope` is ``own`` (the network's own offers) or ``market`` (those of other networks). `prefer` is taken in
  place of the best if it passes the gates and its band is the best one's or the next. Takes a slot of the
  offer picked, which ``release(key)`` gives back, and charges it the work. ``load(group)``: the
  slots taken of a device.
- ``pick_many(*, seeds, ...) -> list``: the same request once for each seed, each as ``(key, explored,
  propensity)``, or None where nothing fitted; no cards.
- ``snapshot() -> bytes``, ``Router.restore(snapshot)``: a router that goes on where this one was, to the last
  bit. Anything else is an `InvalidInput` on ``snapshot``.
- ``report(group, ok, now_ms)``: how a request to a device ended; failures in a row open its breaker;
  with `breaker_window`, 40 % failed of the last requests do too. ``report_owner(owner, ok, now_ms)`` is the
  same over all devices of an owner, with four times the failures in a row and twice the window.
  ``breaker_state(group_or_owner, now_ms)`` is ``closed``, ``open`` or ``half_open``. With
  `breaker_tested_apart` no request goes through a half-open breaker: `breaker_successes` reports close it.
- ``take_tallies()``: for each offer asked for since the last call ``(key, asked, got, fair_share, missed)``,
  `missed` by the gate it failed, the part of the score that cost it most against the winner, ``turn`` or
  ``chance``. ``take_asked()``: requests to the market since the last call, of all and of each offerer.
- ``medians()``: ``(model, price, latency_ms)`` over the offers that could serve the market now.
- ``tick(now_ms, *, offers_max=None) -> bool``: begins an epoch. With `offers_max` no more offers than that
  are scored anew, and it returns False while some are left: call it again with the same time.
  ``set_references(model, *, price_reference, latency_reference_ms)`` at its start. Scores change only then,
  and when something happens to the provider itself.

``Decision``: ``key``, ``group``, ``owner`` and ``propensity`` (None if nothing fits), ``explored``,
``feasible``, ``gates`` (offers that the requester may know of, by the first gate each failed, in the order of
the gates), and ``card() -> bytes``, the decision card as one JSON object: ``chosen``, ``explored``,
``propensity``, ``feasible``, ``gates``, ``candidates`` (at most 17, best first, each with ``key``, ``score``,
``band``, the five parts and ``chosen``), ``weights``, ``effective_weights`` (how much each part decided,
adding up to 1: its weight times the sum of its distances between the winner and the other candidates, over
the same of all five), ``now_ms``, ``epoch_ms``, ``seed``. The keys in a card are the
router's own: put pseudonyms in their place before a requester sees them.

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
        """The score of one provider, of five numbers, or of every row of a table."""
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
