"""Many runs, in chunks that each have a seed: how tests, campaigns and planted leaks use the machines."""

from __future__ import annotations

import contextlib
import io
import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis.internal.conjecture.engine import ConjectureRunner
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.stateful import run_state_machine_as_test

from tests.isolation.worlds.machine import Tally, Worlds
from tests.isolation.worlds.market import Market
from tests.isolation.worlds.members import Members
from tests.isolation.worlds.pair import Pair
from tests.isolation.worlds.stage import Stage
from tests.isolation.worlds.strict import Strict

KINDS: dict[str, type[Pair]] = {"strict": Strict, "market": Market, "members": Members}
CHUNK_RUNS = 20
STEPS = 50


@dataclass
class Result:
    """What the runs of one campaign came to. `answers`: route → statuses seen by the attacker."""

    seeds: list[int] = field(default_factory=list)
    two_world_runs: int = 0
    steps: int = 0
    compared: int = 0
    differences: int = 0
    reports: list[str] = field(default_factory=list)
    answers: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, other: Result) -> None:
        self.seeds += other.seeds
        for name in ("two_world_runs", "steps", "compared", "differences"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reports += other.reports
        for route, statuses in other.answers.items():
            mine = self.answers.setdefault(route, {})
            for status, count in statuses.items():
                mine[status] = mine.get(status, 0) + count


def run_chunk(
    on: Stage, kind: str, seed: int, *, runs: int = CHUNK_RUNS, steps: int = STEPS, shrink: bool = True
) -> Result:
    """`runs` runs of `steps` steps from one seed. A difference is in `reports`, with the steps that lead
    there: the fewest, if it was to be shrunk."""
    tally = Tally()
    machine: type[Worlds] = type(
        f"{kind.title()}Worlds", (Worlds,), {"kind": KINDS[kind], "stage": on, "tally": tally, "names": []}
    )
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    made = settings(
        max_examples=runs,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    result = Result(seeds=[seed])
    try:
        with contextlib.redirect_stdout(io.StringIO()), _by_the_seed_alone():
            run_state_machine_as_test(with_seed(seed)(machine), settings=made)
    except Exception as error:
        # A difference; or one that did not show again; or a bug of the server or of ours. All are red.
        result.differences = 1
        told = tally.last or "".join(traceback.format_exception(error))
        result.reports.append(f"{kind}, chunk seed {seed}:\n{told}\n({type(error).__name__})")
    result.two_world_runs, result.steps, result.compared = tally.runs, tally.steps, tally.compared
    for (route, status), count in tally.answers.items():
        result.answers.setdefault(route, {})[str(status)] = count
    return result


@contextlib.contextmanager
def _by_the_seed_alone() -> Iterator[None]:
    """Hypothesis makes most test cases out of copies of parts of the one before: good for finding equal
    values, which collide here anyway, but most runs would then do the same. And it draws constants that it
    reads in whatever modules are loaded: a seed would mean other runs beside other tests."""
    engine: Any = ConjectureRunner
    provider: Any = HypothesisProvider
    copies, constants = engine.generate_mutations_from, provider._maybe_draw_constant
    engine.generate_mutations_from = lambda self, data: None
    provider._maybe_draw_constant = lambda self, kind, constraints, *, p=0.0: None
    try:
        yield
    finally:
        engine.generate_mutations_from, provider._maybe_draw_constant = copies, constants


def chunks(
    on: Stage,
    kinds: list[str],
    seed: int,
    *,
    runs: int,
    steps: int = STEPS,
    seconds: float | None = None,
    begun: int = 0,
    shrink: bool = True,
) -> Iterator[tuple[int, Result]]:
    """(number of the chunk, its result) until `runs` in all were made or `seconds` have passed; the kinds in
    turn. `begun`: chunks that were made before."""
    deadline = None if seconds is None else time.monotonic() + seconds
    number, left = begun, runs
    while left > 0 and (deadline is None or time.monotonic() < deadline):
        kind = kinds[number % len(kinds)]
        made = run_chunk(on, kind, seed + number, runs=min(CHUNK_RUNS, left), steps=steps, shrink=shrink)
        left -= max(made.two_world_runs, 1)
        number += 1
        yield number, made
        if made.differences:
            return


def resumed(path: Path, key: dict[str, Any]) -> tuple[int, Result]:
    """What an earlier campaign with the same key has done: (chunks, result)."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return 0, Result()
    if kept.get("key") != key:
        return 0, Result()
    return kept["chunks"], Result(**kept["result"])


def keep(path: Path, key: dict[str, Any], number: int, result: Result) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".new")
    written.write_text(json.dumps({"key": key, "chunks": number, "result": asdict(result)}))
    written.replace(path)
