"""What a run found: one JSON object for each measure, and a table of ratios, also where we lose."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

HOME: Final = Path("build/bench")


@dataclass(slots=True)
class Measure:
    """One figure: of every round, ours and the peers'. `target`: what is promised of it, in words and as a
    check of (ours, the first peer)."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    target: str = ""
    least_ratio: float | None = None
    """The promise as a ratio to the first peer: at least this many times better."""
    bound: float | None = None
    """The promise as an absolute value."""
    ours: list[float] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def ratio(self, peer: str) -> float:
        """How many times better ours is; under 1 we lose."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.peers[peer])
        if ours <= 0 or theirs <= 0:
            return float("nan")
        return ours / theirs if self.better == "higher" else theirs / ours

    def met(self) -> bool | None:
        """Whether the promise was kept in this run; None without one."""
        if self.least_ratio is not None and self.peers:
            return self.ratio(next(iter(self.peers))) >= self.least_ratio
        if self.bound is not None:
            ours = statistics.median(self.ours)
            return ours <= self.bound if self.better == "lower" else ours >= self.bound
        return None

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "ours": round(statistics.median(self.ours), 3),
            "peers": {name: round(statistics.median(values), 3) for name, values in self.peers.items()},
            "runs": len(self.ours),
            "min": round(min(self.ours), 3),
            "max": round(max(self.ours), 3),
            "peers_min_max": {
                name: [round(min(values), 3), round(max(values), 3)] for name, values in self.peers.items()
            },
            "target": self.target,
            "met": self.met(),
            "notes": self.notes,
        }


def write(group: str, measures: Sequence[Measure]) -> Path:
    """`build/bench/GROUP.json`, one object a line."""
    HOME.mkdir(parents=True, exist_ok=True)
    path = HOME / f"{group}.json"
    path.write_text("".join(json.dumps(measure.record()) + "\n" for measure in measures))
    return path


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def table(measures: Sequence[Measure]) -> str:
    """One line for each measure and peer."""
    rows = [("measure", "unit", "ours (min to max)", "peer", "theirs", "ratio", "target", "")]
    for measure in measures:
        spread = f"{_figure(min(measure.ours))} to {_figure(max(measure.ours))}"
        ours = f"{_figure(statistics.median(measure.ours))} ({spread})"
        met = {True: "met", False: "MISSED", None: ""}[measure.met()]
        head = (measure.name, f"{measure.unit}, {measure.better}", ours)
        if not measure.peers:
            rows.append((*head, "", "", "", measure.target, met))
        for number, (peer, values) in enumerate(measure.peers.items()):
            ratio = measure.ratio(peer)
            said = f"{ratio:.2f}×{'' if ratio >= 1 else ' we lose'}"
            last = (measure.target, met) if number == 0 else ("", "")
            front = head if number == 0 else ("", "", "")
            rows.append((*front, peer, _figure(statistics.median(values)), said, *last))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0].rstrip()), *lines[1:]])
