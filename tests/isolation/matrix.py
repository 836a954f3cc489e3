"""The probe matrix as a campaign: `python -m tests.isolation.matrix --probes 100000 --seconds 3600 --seed 1`.

Draws cells of the matrix without repeating one until all of their kind were drawn, and goes on where the last
run with this seed stopped. Prints the coverage, then one line of JSON. Ends with 1 if anything differed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.conftest import make_directory
from tests.isolation.acts import ACTS, act
from tests.isolation.cells import DECLARED, METHODS, Cell, cells, due
from tests.isolation.engine import Difference, Engine
from tests.isolation.planted import ROOT, digest_of
from tests.isolation.rows import changed
from tests.isolation.stand import open_stand

SHARES: Final = {"path": 35, "body": 25, "header": 20, "query": 15, "socket": 5}
"""Of a hundred probes. Each kind in an order of its own, or headers, which fit everywhere, would be most."""
ROWS_EVERY: Final = 500
KEPT_MAX: Final = 100
RESULTS: Final = Path("build/isolation")

Key = tuple[str, str, str, str]


@dataclass
class Coverage:
    """`due`: (method, path, place, class) of every method that a path has; and every method of every path."""

    due: set[Key]
    done: set[Key] = field(default_factory=set)
    methods: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, every: Iterable[Cell]) -> Coverage:
        return cls({key for cell in every if (key := due(cell)) is not None})

    def add(self, cell: Cell) -> None:
        key = due(cell)
        if key is not None:
            self.done.add(key)
        if cell.place.where != "socket":
            self.methods.add((cell.method, cell.place.path))

    @property
    def slots(self) -> float:
        return len(self.done & self.due) / len(self.due)

    @property
    def method_paths(self) -> float:
        return len(self.methods) / (len(METHODS) * len(DECLARED))

    def table(self) -> str:
        """A line for each route: of each kind of place how many (place × class) were probed of how many."""
        kinds = ("path", "body", "query", "header", "socket")
        rows: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(
            lambda: {kind: [0, 0] for kind in kinds}
        )
        for key in sorted(self.due, key=lambda key: (key[1], key[0])):
            counts = rows[key[1], key[0]][key[2].partition(" ")[0]]
            counts[0] += key in self.done
            counts[1] += 1
        width = max(len(f"{method} {path}") for path, method in rows)
        lines = [f"{'route':{width}}  " + "  ".join(f"{kind:>7}" for kind in kinds)]
        for (path, method), counted in rows.items():
            shown = (f"{done}/{of}" if of else "-" for done, of in counted.values())
            lines.append(f"{f'{method} {path}':{width}}  " + "  ".join(f"{one:>7}" for one in shown))
        return "\n".join(lines)


def deck(every: list[Cell], draw: random.Random) -> Iterator[Cell]:
    """Cells without end: by their shares, and of each kind all before one comes again."""
    by_kind: dict[str, list[Cell]] = defaultdict(list)
    for cell in every:
        by_kind[cell.place.where].append(cell)
    left: dict[str, list[Cell]] = {kind: [] for kind in by_kind}
    kinds = sorted(by_kind)
    while True:
        kind = draw.choices(kinds, [SHARES[one] for one in kinds])[0]
        if not left[kind]:
            left[kind] = draw.sample(by_kind[kind], len(by_kind[kind]))
        yield left[kind].pop()


def slice_of(every: list[Cell], probes: int, draw: random.Random) -> list[Cell]:
    """One cell at least for each due (route × place × class) and each method of each path; more by chance."""
    order = draw.sample(every, len(every))
    need: dict[Any, Cell] = {}
    for cell in order:
        key = due(cell)
        if key is not None:
            need.setdefault(key, cell)
        if cell.place.where != "socket":
            need.setdefault((cell.method, cell.place.path), cell)
    chosen = list(dict.fromkeys(need.values()))
    more = deck(order, draw)
    while len(chosen) < probes:
        chosen.append(next(more))
    draw.shuffle(chosen)
    return chosen


@dataclass
class Result:
    """What a run found."""

    probes: int = 0
    differences: list[Difference] = field(default_factory=list)
    by_place: Counter[str] = field(default_factory=Counter)

    def add(self, found: Difference) -> None:
        if len(self.differences) < KEPT_MAX:
            self.differences.append(found)


async def run(
    engine: Engine,
    chosen: Iterable[Cell],
    coverage: Coverage,
    result: Result,
    *,
    rows_every: int = ROWS_EVERY,
) -> None:
    """Probe all of them; the victim's rows are read before, after, and every `rows_every` probes."""
    rows = engine.stand.rows
    before = await rows.taken()
    since: list[Cell] = []

    async def look() -> None:
        nonlocal before
        after = await rows.taken()
        for table in changed(before, after):
            paths = sorted({f"{cell.method} {cell.place.path}" for cell in since})
            result.add(Difference("; ".join(paths)[:2000], f"A's rows of {table} changed"))
        before = after
        since.clear()

    for cell in chosen:
        found = await engine.probe(cell)
        result.probes += 1
        result.by_place[cell.place.where] += 1
        since.append(cell)
        coverage.add(cell)
        if found is not None:
            result.add(found)
        if len(since) >= rows_every:
            await look()
    await look()


async def campaign(probes: int, seconds: float, seed: int) -> dict[str, Any]:
    """Up to `probes` in all runs with this seed, and `seconds` in this one."""
    kept = RESULTS / f"matrix-{seed}.json"
    tree = digest_of(ROOT)
    earlier: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    if earlier.get("tree") != tree:
        earlier = {}  # Other sources: what was found of them is worth nothing here.
    place = make_directory()
    draw = random.Random(seed)
    ends = time.monotonic() + seconds
    result = Result(earlier.get("probes", 0), [Difference(**one) for one in earlier.get("differences", [])])
    try:
        async with open_stand(place) as stand:
            engine = Engine(stand, random.Random(seed + result.probes))
            every = list(cells(engine.has))
            coverage = Coverage.of(every)
            coverage.done = {tuple(key) for key in earlier.get("done", [])}  # type: ignore[misc]
            coverage.methods = {tuple(key) for key in earlier.get("methods", [])}  # type: ignore[misc]
            # First what is due, then by chance; what earlier runs have probed is passed over.
            order = slice_of(every, 0, draw)
            more = deck(every, draw)
            while len(order) < probes:
                order.append(next(more))

            def left() -> Iterator[Cell]:
                for cell in order[result.probes : probes]:
                    if time.monotonic() >= ends:
                        return
                    yield cell

            await run(engine, left(), coverage, result)
            for one in ACTS:
                for found in await act(engine, one):
                    result.add(found)
            await engine.close()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(coverage.table())
    RESULTS.mkdir(parents=True, exist_ok=True)
    answer = {
        "probes": result.probes,
        "slot_coverage": round(coverage.slots, 4),
        "method_coverage": round(coverage.method_paths, 4),
        "differences": [asdict(one) for one in result.differences],
        "seed": seed,
    }
    kept.write_text(
        json.dumps(
            answer | {"tree": tree, "done": sorted(coverage.done), "methods": sorted(coverage.methods)}
        )
    )
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probes", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3_600)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    answer = asyncio.run(campaign(asked.probes, asked.seconds, asked.seed))
    print(json.dumps(answer))
    return 1 if answer["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
