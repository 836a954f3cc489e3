"""`python -m benches [rest] [gateway]`: measure, write build/bench/*.json, print a table of ratios."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import uvloop

from benches import gateway, peers, report, rest
from benches.client import Target, closed_loop
from benches.machine import CLIENT_CORE, described
from benches.plan import Plan
from benches.report import Measure
from benches.world import World, open_world

GROUPS = {"rest": rest.measure, "gateway": gateway.measure}


async def _headroom(world: World, plan: Plan) -> Measure:
    """What the client itself can do: an endpoint that costs nothing, on the client's own core."""
    bare = Measure("client.headroom", "requests/s", "higher")
    target = Target.of(world.backend_port, "GET", "/bare", expect=b"true")
    for number in plan.rounds_with_warm_up():
        sample = await closed_loop(target, connections=16, seconds=min(plan.seconds, 1.0))
        if number:
            plan.add(bare, "ours", sample.per_second)
    return bare


async def _run(groups: list[str], plan: Plan) -> list[Measure]:
    measured: list[Measure] = []
    place = Path(tempfile.mkdtemp(prefix="ygg-bench-"))
    # PostgreSQL's user passes through to its own directory, which is removed with the rest.
    os.chmod(place, 0o711)  # noqa: S103  passing is all that others may
    try:
        async with open_world(place) as world:
            for group in groups:
                found = await GROUPS[group](world, plan)
                report.write(group, found)
                measured += found
            bare = await _headroom(world, plan)
            report.write("client", [bare])
            measured.append(bare)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="which; all if none is named")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each run in a round")
    options = parser.parse_args()
    groups = options.groups or list(GROUPS)
    peers.prepare(groups)
    os.sched_setaffinity(0, {CLIENT_CORE})
    measured = uvloop.run(_run(groups, Plan(options.rounds, options.seconds)))
    print(described())
    print(report.table(measured))


if __name__ == "__main__":
    main()
