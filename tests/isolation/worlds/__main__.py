"""`python -m tests.isolation.worlds`: see the package's text."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

import structlog

from tests.isolation.worlds.campaign import KINDS, STEPS, Result, chunks, keep, resumed
from tests.isolation.worlds.stage import stage


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.isolation.worlds")
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}", action="store_true", help=f"only this kind, and others named ({kind})"
        )
    parser.add_argument("--runs", type=int, default=int(os.environ.get("YGG_WORLDS_RUNS", "60")))
    parser.add_argument("--steps", type=int, default=int(os.environ.get("YGG_WORLDS_STEPS", str(STEPS))))
    parser.add_argument(
        "--seconds", type=float, default=None, help="stop after the chunk that is then running"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="go on where an earlier run with the same seed stopped")
    parser.add_argument(
        "--no-shrink", action="store_true", help="report the first difference as it was found"
    )
    parser.add_argument("--answers", action="store_true", help="which statuses each route gave")
    asked = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    kinds = [kind for kind in KINDS if getattr(asked, kind)] or list(KINDS)
    key = {"kinds": kinds, "seed": asked.seed, "steps": asked.steps}
    number, total = resumed(asked.state, key) if asked.state is not None else (0, Result())
    with stage() as on:
        left = asked.runs - total.two_world_runs
        for at, made in chunks(
            on,
            kinds,
            asked.seed * 1_000_000,
            runs=left,
            steps=asked.steps,
            seconds=asked.seconds,
            begun=number,
            shrink=not asked.no_shrink,
        ):
            total.add(made)
            if asked.state is not None and not made.differences:
                keep(asked.state, key, at, total)
    for report in total.reports:
        print(report, file=sys.stderr)
    shown = asdict(total)
    del shown["reports"]
    if not asked.answers:
        del shown["answers"]
    print(json.dumps(shown))
    return 1 if total.differences else 0


if __name__ == "__main__":
    sys.exit(main())
