"""The pictures of docs/engines/choosing.md: plain SVG, readable on light and on dark ground."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from yggdrasil.scoring import constants
from yggdrasil.scoring.policies import Scored
from yggdrasil.scoring.report import Report
from yggdrasil.scoring.scenarios import SCENARIOS
from yggdrasil.scoring.simulation import simulate

WIDTH: Final = 420
HEIGHT: Final = 260
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 30, 44
TICK_ROOM: Final = 34
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Okabe and Ito 2008: told apart by everybody."""
SWEEPS: Final[Mapping[str, Sequence[float]]] = {
    "band_width": (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.2),
    "prior_weight": (0.5, 1.0, 2.0, 4.0, 8.0),
    "quality_prior": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    "newcomer_ppm": (0, 5_000, 20_000, 50_000, 100_000, 200_000),
    "explore_ppm": (0, 5_000, 15_000, 50_000, 150_000),
}


class Chart:
    """One pair of axes. Points are given in their own units."""

    def __init__(self, title: str, x: str, y: str, *, log_x: bool = False) -> None:
        self._title, self._x, self._y, self._log_x = title, x, y, log_x
        self._lines: list[tuple[str, list[tuple[float, float]], bool]] = []
        self._mark: float | None = None

    def line(self, name: str, points: Sequence[tuple[float, float]]) -> None:
        self._lines.append((name, [p for p in points if math.isfinite(p[1])], True))

    def dot(self, name: str, point: tuple[float, float]) -> None:
        self._lines.append((name, [point], False))

    def mark(self, x: float) -> None:
        """A vertical line: the constant that is used."""
        self._mark = x

    def svg(self) -> str:
        points = [point for _, line, _ in self._lines for point in line]
        xs = [self._scaled(x) for x, _ in points]
        ys = [y for _, y in points]
        low_x, high_x = _padded(min(xs), max(xs))
        low_y, high_y = _padded(min(ys), max(ys))

        def place(x: float, y: float) -> tuple[float, float]:
            across = (self._scaled(x) - low_x) / (high_x - low_x)
            up = (y - low_y) / (high_y - low_y)
            return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

        middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            f' aria-label="{escape(self._title)}" font-family="sans-serif" font-size="11" fill="#777">',
            f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{escape(self._title)}</text>',
            f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#999"/>',
            _text(middle[0], HEIGHT - 8, self._x),
            f'<g transform="translate(12 {middle[1]}) rotate(-90)">{_text(0, 0, self._y)}</g>',
        ]
        for step in range(5):
            y = low_y + (high_y - low_y) * step / 4
            parts.append(_text(LEFT - 5, place(points[0][0], y)[1] + 4, f"{y:.3g}", anchor="end"))
        different = sorted({x for x, _ in points})
        last = -math.inf
        for x in different:
            across = place(x, low_y)[0]
            if across - last >= TICK_ROOM:
                parts.append(_text(across, HEIGHT - BOTTOM + 15, f"{x:.3g}"))
                last = across
        if self._mark is not None:
            across = place(self._mark, low_y)[0]
            dashed = 'stroke="#999" stroke-dasharray="4 4"'
            parts.append(f'<path d="M{across:.1f} {TOP}V{HEIGHT - BOTTOM}" {dashed}/>')
        for number, (name, line, joined) in enumerate(self._lines):
            colour = COLOURS[number % len(COLOURS)]
            placed = [place(x, y) for x, y in line]
            if not placed:
                continue
            if joined:
                path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
                parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in placed]
            if joined:
                # Lines end where others end: their names stand in a list.
                parts.append(_text(WIDTH - RIGHT - 4, HEIGHT - BOTTOM - 8 - 13 * number, name, "end", colour))
                continue
            x, y = placed[0]
            left = x > WIDTH / 2
            above = -6 if number % 2 else 14
            parts.append(_text(x - 8 if left else x + 8, y + above, name, "end" if left else "start", colour))
        return "\n".join([*parts, "</svg>", ""])

    def _scaled(self, x: float) -> float:
        return math.log10(x) if self._log_x else x


def _text(x: float, y: float, text: str, anchor: str = "middle", fill: str = "#777") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low or abs(high) or 1.0) * 0.08
    return low - room, high + room


def draw_all(found: dict[str, dict[str, list[Report]]], directory: Path, seeds: int) -> None:
    """Every picture, as NAME.svg."""
    directory.mkdir(parents=True, exist_ok=True)
    for scenario, by_policy in found.items():
        chart = Chart(f"{scenario}: cost and tail", "95th percentile, seconds", "cost of a token, relative")
        cheapest = min(_middle(reports, "cost_per_million") for reports in by_policy.values())
        for name, reports in by_policy.items():
            chart.dot(
                name,
                (_middle(reports, "latency_p95_seconds"), _middle(reports, "cost_per_million") / cheapest),
            )
        (directory / f"policies-{scenario}.svg").write_text(chart.svg())
    for constant, values in SWEEPS.items():
        evenness = Chart(
            f"{constant}: evenness among equals", constant, "Jain's index", log_x=min(values) > 0
        )
        regret = Chart(f"{constant}: regret", constant, "points of the score", log_x=min(values) > 0)
        for make in SCENARIOS:
            scenario = make()
            runs = {
                value: [
                    simulate(scenario, _with(constant, value, seed), seed) for seed in range(1, seeds + 1)
                ]
                for value in values
            }
            evenness.line(scenario.name, [(value, _middle(runs[value], "jain")) for value in values])
            regret.line(scenario.name, [(value, _middle(runs[value], "regret")) for value in values])
        for chart, name in ((evenness, "jain"), (regret, "regret")):
            chart.mark(_used(constant))
            (directory / f"{constant}-{name}.svg").write_text(chart.svg())


_PRIORS: Final[Mapping[str, Callable[[float], dict[str, Any]]]] = {
    "prior_weight": lambda value: {"quality_prior": (constants.QUALITY["quality_prior"][0], value)},
    "quality_prior": lambda value: {"quality_prior": (value, constants.QUALITY["quality_prior"][1])},
}


def _with(constant: str, value: float, seed: int) -> Scored:
    if constant in _PRIORS:
        return Scored(seed, quality=_PRIORS[constant](value))
    return Scored(seed, router={constant: int(value) if constant.endswith("_ppm") else value})


def _used(constant: str) -> float:
    mean, weight = constants.QUALITY["quality_prior"]
    used: dict[str, Any] = {
        **constants.ROUTER,
        "newcomer_ppm": constants.NEWCOMER_PPM,
        "prior_weight": weight,
        "quality_prior": mean,
    }
    return float(used[constant])


def _middle(reports: list[Report], name: str) -> float:
    return statistics.median(getattr(report, name) for report in reports)
