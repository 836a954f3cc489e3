"""`python -m benches.engines.guarded`: the ratios of the engines that CI guards, in build/bench/guarded.json.

Each measure takes turns with its peer, round by round, in one process, and what is compared is CPU time: a
neighbour on the machine changes it little, and both sides alike. All peers are light: a minute in all, and no
large download.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np

from benches.engines.vocabularies import fill_cache
from benches.report import Measure, table, write
from yggdrasil import heidrun
from yggdrasil.eikthyrnir import Quality
from yggdrasil.scoring import Router, score

Run = Callable[[], object]
ROUNDS: Final = 9
ROWS: Final = 1_000_000
SCORED: Final = 200_000
PROVIDERS: Final = 100_000
EVENTS: Final = 1_000_000
PEER_EVENTS: Final = 50_000
PICKS: Final = 4_000
MODEL: Final = "chat/llama-3.1-8b"
ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Pair:
    """`work` and `peer_work`: what one call of each does, in events, rows or bytes."""

    name: str
    peer: str
    ours: Run
    theirs: Run
    work: float = 1.0
    peer_work: float = 1.0

    def measure(self) -> Measure:
        """Nanoseconds of CPU for one of the work, in turns; the first round warms up and is dropped."""
        found = Measure(self.name, "ns CPU", "lower")
        rounds: list[float] = found.peers.setdefault(self.peer, [])
        for number in range(ROUNDS + 1):
            ours, theirs = _cpu_seconds(self.ours), _cpu_seconds(self.theirs)
            if number:
                found.ours.append(ours / self.work * 1e9)
                rounds.append(theirs / self.peer_work * 1e9)
        return found


def _cpu_seconds(run: Run) -> float:
    """Of all threads, without the collector."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        run()
        return time.process_time() - start
    finally:
        gc.enable()


def count_prose() -> Pair:
    """A count of the documentation, against the tokens that `tiktoken` makes of it."""
    with tempfile.TemporaryDirectory() as directory:
        fill_cache(Path(directory))
        os.environ["TIKTOKEN_CACHE_DIR"] = directory
        import tiktoken  # reads the variable

        theirs = tiktoken.get_encoding("o200k_base")
    text = "".join(path.read_text("utf-8") for path in sorted(ROOT.glob("docs/**/*.md")))
    if heidrun.count("o200k_base", text) != len(theirs.encode_ordinary(text)):
        raise AssertionError("the counts differ")
    size = len(text.encode())
    ours, tokens = partial(heidrun.count, "o200k_base", text), partial(theirs.encode_ordinary, text)
    return Pair("heidrun.count_prose", f"tiktoken {version('tiktoken')}", ours, tokens, size, size)


def settle_many() -> Pair:
    """A million settlements, against the same formula in NumPy: whole cents, a fee rounded down, the rest."""
    tokens = np.random.default_rng(3).integers(0, 2_000_000, ROWS)

    def by_numpy() -> tuple[Any, Any, Any]:
        total = -(-tokens * 3 // 1_000) * 1_000_000
        fee = total * 1_250 // 10_000
        return total, fee, total - fee

    def ours() -> Any:
        return heidrun.settle_many(tokens, 3, 1_000, 1_250)

    return Pair("heidrun.settle_many", f"numpy {np.__version__}", ours, by_numpy, ROWS, ROWS)


def score_table() -> Pair:
    """Scores by one thread into an array that is there, against the same formula in NumPy. So many rows are
    in the caches: what memory and pages cost differs from run to run by more than the scores."""
    drawn = np.random.default_rng(1)
    most = {"price": 20.0, "quality": 1.0, "latency_ms": 5_000.0, "availability": 1.0, "work": 1e6}
    t = {name: drawn.random(SCORED) * limit for name, limit in most.items()}

    def by_numpy() -> Any:
        return (
            0.30 * (3.0 / (3.0 + t["price"]))
            + 0.25 * t["quality"]
            + 0.20 * (400.0 / (400.0 + t["latency_ms"]))
            + 0.15 * t["availability"]
            + 0.10 * (70.0 / (70.0 + t["work"]))
        )

    references = {"price_reference": 3.0, "latency_reference_ms": 400.0, "work_reference": 70.0}
    ours = partial(score, t, out=np.zeros(SCORED), **references)
    if not np.array_equal(ours(), by_numpy()):
        raise AssertionError("the scores differ")
    return Pair("scoring.score_2e5", f"numpy {np.__version__}", ours, by_numpy, SCORED, SCORED)


def observe_many() -> Pair:
    """Observations with quantiles, against a sketch of each provider."""
    from ddsketch import DDSketch

    drawn = np.random.default_rng(1)
    shares = np.cumsum(1 / np.arange(1, PROVIDERS + 1))
    whose = drawn.permutation(PROVIDERS)[np.searchsorted(shares, drawn.random(EVENTS) * shares[-1])]
    values, times = drawn.lognormal(5.0, 0.5, EVENTS), np.sort(drawn.integers(0, 3_600_000, EVENTS))
    quality = Quality(quantiles=True)
    handles: Any = quality.handles(drawn.integers(0, 256, (PROVIDERS, 16), dtype=np.uint8))
    handles = handles[whose]
    sketches: dict[int, Any] = {}

    def each() -> None:
        events = zip(whose[:PEER_EVENTS].tolist(), values[:PEER_EVENTS].tolist(), strict=True)
        for provider, value in events:
            sketch = sketches.get(provider)
            if sketch is None:
                sketch = sketches[provider] = DDSketch(0.01)
            sketch.add(value)

    def ours() -> None:
        quality.observe_many(handles, "latency_ms", values, at_ms=times)

    peer = f"ddsketch {version('ddsketch')}"
    return Pair("eikthyrnir.observe_many_quantiles", peer, ours, each, EVENTS, PEER_EVENTS)


def _router(offers: int) -> Router:
    chance = np.random.default_rng(offers)
    router = Router(newcomer_ppm=50_000)
    for number in range(offers):
        key = chance.bytes(16)
        router.upsert(
            key=key,
            owner=(1_000 + number // 4).to_bytes(16, "big"),
            group=(10**9 + number).to_bytes(16, "big"),
            model=MODEL,
            price_microcents=1_000_000 * int(chance.integers(1, 200)),
            context_tokens=(8_192, 32_768, 131_072)[number % 3],
            output_tokens=4_096,
            capacity=4,
            group_capacity=4,
        )
        router.set_online(key, True)
    return router


def pick_flat() -> Pair:
    """A pick among 100,000 offers, against one among 1,000: the ratio is how flat the router is."""
    seeds = count()

    def picks(router: Router) -> None:
        for _ in range(PICKS):
            picked = router.pick(
                model=MODEL,
                network=b"\x01" * 16,
                scope="market",
                context_tokens=1_000,
                output_tokens=500,
                work_tokens=1_500,
                now_ms=1,
                seed=next(seeds),
            ).key
            if picked is None:
                raise RuntimeError("no offer fitted")
            router.release(picked)

    few, many = _router(1_000), _router(100_000)
    return Pair("router.pick_1e5", "1e3 offers", partial(picks, many), partial(picks, few), PICKS, PICKS)


PAIRS: Final = (count_prose, settle_many, score_table, observe_many, pick_flat)


def main() -> None:
    """Measure all, write them, print the table."""
    measures = [pair().measure() for pair in PAIRS]
    print(table(measures))
    print(write("guarded", measures))


if __name__ == "__main__":
    main()
