"""`python -m benches.guard`: fail if a ratio taken inside the last run fell below its floor.

Guarded is CPU time per request, of the server and of PostgreSQL together: on a shared machine it says what a
change did to the code, where requests per second say what the neighbours did.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path("build/bench/rest.json")
FLOORS: Final = {("rest.device_page", "fastapi"): 1.25}
"""(measure, peer) -> how many times our CPU time the peer must need; below the 1.65 seen, for noise."""


def cpu_ratio(measure: dict[str, Any], peer: str) -> float:
    """The peer's CPU time per request over ours."""
    spent: dict[str, dict[str, int]] = measure["notes"]["cpu_us_per_request"]
    name = next(name for name in spent if name.split()[0] == peer)
    return sum(spent[name].values()) / sum(spent["ours"].values())


def main() -> int:
    """0 if every floor holds."""
    measures = {line["name"]: line for line in map(json.loads, RESULTS.read_text().splitlines())}
    failed = 0
    for (name, peer), floor in FLOORS.items():
        ratio = cpu_ratio(measures[name], peer)
        held = ratio >= floor
        failed += not held
        verdict = "ok" if held else "BELOW"
        print(f"{name}: {peer} needs {ratio:.2f} times our CPU time (floor {floor}): {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
