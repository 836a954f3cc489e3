"""Whether the time of an answer tells what the answer hides: `python -m tests.isolation.timing --pairs 2000`.

A real server on loopback is asked in turns (ABBA, the side that begins drawn by chance) for what is
somebody's and for what never was: every route × place of `probes.PROBES`, API keys, sockets, and sign-in with
an address that is known and one that is not. Prints a line for each class, then the verdicts as JSON. Ends
with 0 if all are equivalent, with 1 if one is shown to differ, with 2 if the time was too short to tell: the
next run goes on from there. `--delay-us` plants a leak in one class that must then be found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.conftest import make_directory
from tests.isolation.conftest import open_two
from tests.isolation.equivalence import BLOCK_PAIRS, BLOCKS_MIN
from tests.isolation.planted import ROOT, digest_of
from tests.isolation.timed_classes import Ask, Bench, Class, Line
from tests.isolation.timed_server import DELAY
from tests.live.house import House
from yggdrasil.demo.mail import CodeMail

KEPT: Final = Path("build/isolation/timing.json")
OUT_OF_TIME: Final = 2


def block(theirs: Ask, nobodys: Ask, pairs: int, draw: random.Random) -> tuple[list[float], list[float]]:
    """`pairs` of each (even), in turns of ABBA or BAAB, so that neither side follows the other more often."""
    found: tuple[list[float], list[float]] = ([], [])
    for ask in (theirs, nobodys, nobodys, theirs):
        ask()  # The first answer of a block opens what the others find open.
    for _ in range(pairs // 2):
        first = draw.randrange(2)
        for side in (first, 1 - first, 1 - first, first):
            found[side].append((theirs, nobodys)[side]())
    return found


def measure(
    bench: Bench, classes: list[Class], pairs: int, ends: float, loop: asyncio.AbstractEventLoop
) -> None:
    """Round after round, each class a block; those that are decided give their time to the others."""
    while time.monotonic() < ends:
        open_ones = [one for one in classes if not decided(one, pairs)]
        if not open_ones:
            return
        for one in bench.draw.sample(open_ones, len(open_ones)):
            if time.monotonic() >= ends:
                return
            theirs, nobodys = asyncio.run_coroutine_threadsafe(one.ready(), loop).result()
            found = block(theirs, nobodys, BLOCK_PAIRS, bench.draw)
            one.theirs += found[0]
            one.nobodys += found[1]


def decided(one: Class, pairs: int) -> bool:
    """Shown to be the one or the other, by enough pairs that nobody stops at the first lucky look."""
    if len(one.theirs) < max(pairs, BLOCKS_MIN * BLOCK_PAIRS):
        return False
    verdict = one.verdict()
    return verdict.equivalent or verdict.differs


@asynccontextmanager
async def open_bench(seed: int, delay_us: float = 0.0) -> AsyncIterator[Bench]:
    """A server of its own process and disk, and A, B and C."""
    place = make_directory()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        mail = await stack.enter_async_context(CodeMail())
        more = {DELAY: str(delay_us)} if delay_us else {}
        house = House(place, mail, more=more, command=("-m", "tests.isolation.timed_server"))
        await house.start()
        stack.callback(house.stop)
        two = await stack.enter_async_context(open_two(house))
        (house.data_dir / "measuring").touch()
        line = Line(house.port)
        stack.callback(line.close)
        bench = Bench(two, line, random.Random(seed))
        yield bench
        for held in bench.sockets:
            held.close()


async def run(
    pairs: int, seconds: float, seed: int, only: str = "", delay_us: float = 0.0, kept: Path | None = None
) -> list[dict[str, Any]]:
    """The verdict of each class whose name holds `only`. `kept`: where the times of earlier runs lie."""
    async with open_bench(seed, delay_us) as bench:
        classes = bench.classes()
        if kept is not None:
            _recall(classes, kept)
        asked = [one for one in classes if only in one.name]
        ends = time.monotonic() + seconds
        await asyncio.to_thread(measure, bench, asked, pairs, ends, asyncio.get_running_loop())
        if kept is not None:
            _keep(classes, kept)
    return [_told(one) for one in asked]


def _recall(classes: list[Class], kept: Path) -> None:
    """Blocks of earlier runs with the same sources count: each compares its own neighbours."""
    earlier = json.loads(kept.read_text()) if kept.exists() else {}
    if earlier.get("tree") != digest_of(ROOT):
        return
    for one in classes:
        one.theirs, one.nobodys = earlier["times"].get(one.name, ([], []))


def _keep(classes: list[Class], kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    times = {one.name: (one.theirs, one.nobodys) for one in classes}
    kept.write_text(json.dumps({"tree": digest_of(ROOT), "times": times}))


def _told(one: Class) -> dict[str, Any]:
    if len(one.theirs) < BLOCKS_MIN * BLOCK_PAIRS:
        return {"class": one.name, "pairs": len(one.theirs), "equivalent": False, "differs": False}
    found = one.verdict()
    return {
        "class": one.name,
        "pairs": found.pairs,
        "t": round(found.t, 2),
        "welch_t": round(found.welch_t, 2),
        "difference_us": round(found.difference_us, 1),
        "low_us": round(found.low_us, 1),
        "high_us": round(found.high_us, 1),
        "margin_us": found.margin_us,
        "equivalent": found.equivalent,
        "differs": found.differs,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2_000, help="of each class at least")
    parser.add_argument("--seconds", type=float, default=1_800)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="classes whose name holds this")
    parser.add_argument(
        "--delay-us", type=float, default=0.0, help="the planted leak, of one device's reading"
    )
    asked = parser.parse_args()
    kept = None if asked.delay_us else KEPT
    found = asyncio.run(run(asked.pairs, asked.seconds, asked.seed, asked.only, asked.delay_us, kept))
    for one in found:
        word = "equivalent" if one["equivalent"] else "DIFFERS" if one["differs"] else "undecided"
        line = (
            f"|t| {abs(one['t']):6.2f}, Welch's {abs(one['welch_t']):5.2f}  {one['difference_us']:8.1f} µs"
            if "t" in one
            else ""
        )
        print(f"{word:10}  {one['pairs']:6} pairs  {line}  {one['class']}")
    print(json.dumps({"timing": found, "seed": asked.seed}))
    if any(one["differs"] for one in found):
        return 1
    return 0 if found and all(one["equivalent"] for one in found) else OUT_OF_TIME


if __name__ == "__main__":
    sys.exit(main())
