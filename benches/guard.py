"""`python -m benches.guard`: fail if a ratio taken inside the last run fell below its floor.

Guarded is CPU time: of the server and of PostgreSQL together for each request, and of the engines beside
their peers. On a shared machine it says what a change did to the code, where requests per second say what the
neighbours did. No figure is compared with one of another run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HOME: Final = Path("build/bench")


def of_requests(measure: Mapping[str, Any], peer: str) -> float:
    """The peer's CPU time per request over ours, from the notes of a measure of the server."""
    spent: dict[str, dict[str, int]] = measure["notes"]["cpu_us_per_request"]
    return sum(spent[_named(spent, peer)].values()) / sum(spent["ours"].values())


def of_medians(measure: Mapping[str, Any], peer: str) -> float:
    """The peer's median over ours, of a measure that is itself CPU time."""
    peers: dict[str, float] = measure["peers"]
    return peers[_named(peers, peer)] / float(measure["ours"])


def _named(known: Mapping[str, Any], peer: str) -> str:
    """The peer's full name, which has its version in it."""
    return next(name for name in known if name.split()[0] == peer)


@dataclass(frozen=True, slots=True)
class Floor:
    """How many times our CPU time the peer must need."""

    group: str
    measure: str
    peer: str
    least: float
    ratio: Callable[[Mapping[str, Any], str], float] = of_medians


FLOORS: Final = (
    Floor("rest", "rest.device_page", "fastapi", 1.25, of_requests),  # 1.65 seen
    Floor("guarded", "heidrun.count_prose", "tiktoken", 2.5),  # 4.4
    Floor("guarded", "heidrun.settle_many", "numpy", 0.13),  # 0.24 to 0.33: NumPy checks no overflow
    Floor("guarded", "scoring.score_2e5", "numpy", 1.4),  # 2.2 seen
    Floor("guarded", "eikthyrnir.observe_many_quantiles", "ddsketch", 13.0),  # 27
    Floor(
        "guarded", "router.pick_1e5", "1e3", 1 / 3
    ),  # 0.65; a pick among many may not cost three times as much
)
"""Beside each, what was seen; the floors leave room for noise."""


def guard(home: Path, floors: tuple[Floor, ...] = FLOORS) -> list[str]:
    """Print every ratio of the results in that directory; what failed, a line each.

    A result that is not there has failed: a guard that found nothing must not look green.
    """
    failed = []
    for floor in floors:
        try:
            lines = (home / f"{floor.group}.json").read_text().splitlines()
            measures = {line["name"]: line for line in map(json.loads, lines)}
            ratio = floor.ratio(measures[floor.measure], floor.peer)
        except (OSError, LookupError, StopIteration, ValueError, ZeroDivisionError) as error:
            line = f"{floor.measure}: no result in {floor.group}.json ({error!r}): MISSING"
            failed.append(line)
        else:
            held = ratio >= floor.least
            said = f"{floor.peer} needs {ratio:.2f} times our CPU time (floor {floor.least:.2f})"
            line = f"{floor.measure}: {said}: {'ok' if held else 'BELOW'}"
            if not held:
                failed.append(line)
        print(line)
    return failed


def main() -> int:
    """0 if every floor holds."""
    return 1 if guard(HOME) else 0


if __name__ == "__main__":
    sys.exit(main())
