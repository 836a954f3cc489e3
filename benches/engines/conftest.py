"""Writes what the engines' benches found: build/bench/engines.json, and the table of ratios."""

from __future__ import annotations

from typing import Any

import pytest

from benches.engines.sides import OURS, value
from benches.report import Measure, table, write


def pytest_benchmark_group_stats() -> list[Any]:
    """pytest-benchmark's own tables would have a line for each turn: ours say it in one for each side."""
    return []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One object a measure, from all turns of all its sides."""
    found = getattr(session.config, "_benchmarksession", None)
    if found is None or session.config.option.collectonly:
        return
    measures = _measures(found.benchmarks)
    if measures:
        print("\n" + table(measures))
        print(write("engines", measures))


def _measures(benchmarks: list[Any]) -> list[Measure]:
    measures: dict[str, Measure] = {}
    for run in benchmarks:
        info = run.extra_info
        if "side" not in info or not run.stats.data:
            continue
        measure = measures.setdefault(
            run.group,
            Measure(
                run.group,
                info["unit"],
                info["better"],
                info["target"],
                least_ratio=info["least_ratio"],
                bound=info["bound"],
                notes=info["notes"],
            ),
        )
        values = [value(seconds, info["unit"], info["better"], info["work"]) for seconds in run.stats.data]
        if info["side"] == OURS:
            measure.ours.extend(values)
        else:
            measure.peers.setdefault(info["side"], []).extend(values)
    return [measure for measure in measures.values() if measure.ours]
