"""Observations by the column against a sketch of PyPI, for a million providers.

Where the two are compared, both get the same events of the same providers, and both are warm: a first
round that makes the sketches and sets memory aside is not counted. `per_event` is of all events,
`per_event_small` of the first ones, whose sketches are few enough to stay in a cache.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from ddsketch import DDSketch

from benches.engines.sides import EngineMeasure, Side
from yggdrasil.eikthyrnir import Quality

PROVIDERS = 1_000_000
EVENTS = 2_000_000
SMALL = 100_000
HOUR_MS = 3_600_000
Columns = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


@cache
def events() -> Columns:
    """Whose (Zipf of exponent 1, in no order), what (log-normal milliseconds), when (within an hour)."""
    drawn = np.random.default_rng(1)
    shares = np.cumsum(1 / np.arange(1, PROVIDERS + 1))
    whose = np.searchsorted(shares, drawn.random(EVENTS) * shares[-1])
    return (
        drawn.permutation(PROVIDERS)[whose],
        drawn.lognormal(5.0, 0.5, EVENTS),
        np.sort(drawn.integers(0, HOUR_MS, EVENTS)),
    )


@cache
def registry(quantiles: bool) -> tuple[Quality, np.ndarray[Any, Any]]:
    """With the handle of each event's provider, as a feed would keep it."""
    quality = Quality(quantiles=quantiles)
    keys = np.random.default_rng(2).integers(0, 256, (PROVIDERS, 16), dtype=np.uint8)
    return quality, quality.handles(keys)[events()[0]]


def ours(quantiles: bool) -> None:
    quality, handles = registry(quantiles)
    _, values, times = events()
    quality.observe_many(handles, "latency_ms", values, at_ms=times)


@cache
def keys() -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).integers(0, 256, (PROVIDERS, 16), dtype=np.uint8)[events()[0]]


def ours_by_key() -> None:
    _, values, times = events()
    registry(False)[0].observe_many(keys(), "latency_ms", values, at_ms=times)


@cache
def small_registry() -> tuple[Quality, np.ndarray[Any, Any]]:
    """With the providers of the first events and no others."""
    quality = Quality(quantiles=True)
    seen, whose = np.unique(events()[0][:SMALL], return_inverse=True)
    keys = np.random.default_rng(2).integers(0, 256, (len(seen), 16), dtype=np.uint8)
    return quality, quality.handles(keys)[whose]


def ours_small() -> None:
    quality, handles = small_registry()
    _, values, times = events()
    quality.observe_many(handles, "latency_ms", values[:SMALL], at_ms=times[:SMALL])


SKETCHES: dict[int, dict[int, DDSketch]] = {SMALL: {}, EVENTS: {}}


def ddsketch_each(count: int) -> None:
    """The first `count` events, each to the sketch of its provider."""
    known = SKETCHES[count]
    whose, values, _ = events()
    for provider, value in zip(whose[:count].tolist(), values[:count].tolist(), strict=True):
        sketch = known.get(provider)
        if sketch is None:
            sketch = known[provider] = DDSketch(0.01)
        sketch.add(value)


OBSERVE = EngineMeasure(
    "eikthyrnir.observe_many",
    "M/s",
    "higher",
    work=EVENTS / 1e6,
    target="20 M/s",
    bound=20.0,
    notes={"providers": PROVIDERS, "zipf": 1.0, "threads": 1, "quantiles": False},
)


@OBSERVE.sides(lambda: ours(quantiles=False), {})
def test_observe_many(side: Side, benchmark: Any) -> None:
    side(benchmark)
    _note_memory(benchmark, OBSERVE, registry(False)[0])


def _note_memory(benchmark: Any, measure: EngineMeasure, quality: Quality) -> None:
    figure = round(quality.memory_bytes / len(quality))
    benchmark.extra_info["notes"] = dict(measure.notes) | {"memory_bytes_per_provider": figure}


BY_KEY = replace(
    OBSERVE, name="eikthyrnir.observe_many_by_key", target="", bound=None, notes={"key_bytes": 16}
)


@BY_KEY.sides(ours_by_key, {})
def test_observe_many_by_key(side: Side, benchmark: Any) -> None:
    side(benchmark, rounds=1)


QUANTILES = replace(
    OBSERVE,
    name="eikthyrnir.observe_many_quantiles",
    target="5 M/s",
    bound=5.0,
    notes={"providers": PROVIDERS, "zipf": 1.0, "threads": 1, "quantiles": True, "relative_error": 0.01},
)


@QUANTILES.sides(lambda: ours(quantiles=True), {})
def test_observe_many_with_quantiles(side: Side, benchmark: Any) -> None:
    side(benchmark)
    _note_memory(benchmark, QUANTILES, registry(True)[0])


PER_EVENT = replace(
    QUANTILES, name="eikthyrnir.per_event", target="100x ddsketch", bound=None, least_ratio=100.0
)
PER_EVENT_SMALL = replace(
    PER_EVENT,
    name="eikthyrnir.per_event_small",
    work=SMALL / 1e6,
    target="",
    least_ratio=None,
    notes={"zipf": 1.0, "threads": 1, "quantiles": True, "relative_error": 0.01, "events": SMALL},
)
DDSKETCH = f"ddsketch {version('ddsketch')}"


@PER_EVENT.sides(lambda: ours(quantiles=True), {DDSKETCH: lambda: ddsketch_each(EVENTS)}, turns=3)
def test_per_event(side: Side, benchmark: Any) -> None:
    side(benchmark, rounds=2)


@PER_EVENT_SMALL.sides(ours_small, {DDSKETCH: lambda: ddsketch_each(SMALL)})
def test_per_event_small(side: Side, benchmark: Any) -> None:
    side(benchmark)
