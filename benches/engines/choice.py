"""`python -m benches.engines.choice`: ours and the common ways to choose, on the five simulated markets.

Nothing here is timed: the same seeds give the same figures on every machine. Written are
build/bench/choice.json and, with `--pictures DIR`, the pictures of docs/engines/choosing.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Final

from benches.engines.pictures import draw_all
from benches.report import Measure, table, write
from yggdrasil.scoring.policies import PEERS, Scored
from yggdrasil.scoring.report import Report
from yggdrasil.scoring.scenarios import SCENARIOS
from yggdrasil.scoring.simulation import simulate

OURS: Final = "yggdrasil"
P95_TOLERANCE: Final = 1.02
"""Tails this close are the same."""
COST_TOLERANCE: Final = 0.99
"""Costs this close are the same: they vary more from seed to seed."""


def run(seeds: int) -> dict[str, dict[str, list[Report]]]:
    """Reports by scenario and policy, one a seed."""
    found: dict[str, dict[str, list[Report]]] = defaultdict(dict)
    for make in SCENARIOS:
        scenario = make()
        for policy in (Scored, *PEERS):
            reports = [simulate(scenario, policy(seed=seed), seed) for seed in range(1, seeds + 1)]
            found[scenario.name][reports[0].policy] = reports
    return found


def measures(found: dict[str, dict[str, list[Report]]]) -> list[Measure]:
    """Of each scenario the cost, against the peers whose tail is no longer; evenness; the waits; the
    newcomer."""
    made = []
    for scenario, by_policy in found.items():
        made += [_cost(scenario, by_policy), _jain(scenario, by_policy)]
    made.append(_longest_wait(found))
    made.append(_newcomer(found))
    return made


def _middle(reports: list[Report], name: str) -> float:
    return statistics.median(getattr(report, name) for report in reports)


def _cost(scenario: str, by_policy: dict[str, list[Report]]) -> Measure:
    measure = Measure(
        f"choice.cost_{scenario}",
        "micro-cents per 1,000,000 tokens",
        "lower",
        "≤ the cheapest peer with no longer p95",
        least_ratio=COST_TOLERANCE,
    )
    tail = _middle(by_policy[OURS], "latency_p95_seconds")
    peers = {name: reports for name, reports in by_policy.items() if name != OURS}
    equal = [
        name
        for name, reports in peers.items()
        if _middle(reports, "latency_p95_seconds") <= tail * P95_TOLERANCE
        and _middle(reports, "lost") <= _middle(by_policy[OURS], "lost")
    ]
    measure.ours = [report.cost_per_million for report in by_policy[OURS]]
    # The first peer is the one that the target counts against.
    for name in sorted(equal, key=lambda name: _middle(peers[name], "cost_per_million")):
        measure.peers[name] = [report.cost_per_million for report in peers[name]]
    measure.notes["all"] = {
        name: {
            "cost_per_million": round(_middle(reports, "cost_per_million")),
            "latency_p95_seconds": round(_middle(reports, "latency_p95_seconds"), 2),
            "lost": _middle(reports, "lost"),
            "regret": round(_middle(reports, "regret"), 4),
            "utilisation": round(_middle(reports, "utilisation"), 3),
        }
        for name, reports in by_policy.items()
    }
    return measure


def _jain(scenario: str, by_policy: dict[str, list[Report]]) -> Measure:
    measure = Measure(f"choice.jain_{scenario}", "index", "higher", "≥ 0.98", bound=0.98)
    measure.ours = [report.jain for report in by_policy[OURS]]
    measure.peers = {
        name: [report.jain for report in reports] for name, reports in by_policy.items() if name != OURS
    }
    return measure


def _longest_wait(found: dict[str, dict[str, list[Report]]]) -> Measure:
    measure = Measure("choice.longest_wait_newcomer", "turns of the band", "lower")
    for name, reports in found["newcomer"].items():
        waits = [report.longest_wait for report in reports]
        if name == OURS:
            measure.ours = waits
        else:
            measure.peers[name] = waits
    return measure


def _newcomer(found: dict[str, dict[str, list[Report]]]) -> Measure:
    measure = Measure("choice.newcomer_picks", "picks", "lower", "≤ 50 picks among 100", bound=50)
    for name, reports in found["newcomer"].items():
        picks = [
            math.inf if math.isnan(report.newcomer_picks) else report.newcomer_picks for report in reports
        ]
        if name == OURS:
            measure.ours = picks
        else:
            measure.peers[name] = picks
    return measure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.engines.choice", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each policy on each market")
    parser.add_argument("--pictures", type=Path, help="draw into this directory")
    options = parser.parse_args()
    found = run(options.seeds)
    made = measures(found)
    print(table(made))
    print(write("choice", made))
    if options.pictures is not None:
        draw_all(found, options.pictures, options.seeds)


if __name__ == "__main__":
    main()
